import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp, createEngine, type Storage } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { addUp } from './books.ts'
import type { Bank } from './transfers.ts'

const bank = await bundleApp<Bank>(import.meta.resolve('./transfers.ts'))

const ann = { principal: 'ann' }
const bob = { principal: 'bob' }
const opened = () =>
  scenario(bank)
    .given('open-account', { account: 'a', cents: 100 }, ann)
    .given('open-account', { account: 'b', cents: 0 }, bob)

test('money goes from one account to another', () => {
  opened()
    .when('transfer', { from: 'a', to: 'b', cents: 100 }, ann)
    .thenAccepted()
    .thenEvents('arriving', 'answered')
    .thenRow('accounts', ['a'], { owner: 'ann', cents: 0 })
    .thenRow('accounts', ['b'], { owner: 'bob', cents: 100 })
})

test('an account pays only what it has, and only for its owner', () => {
  opened()
    .when('transfer', { from: 'a', to: 'b', cents: 101 }, ann)
    .thenRejected('too-little-money', { cents: 100 })
    .when('transfer', { from: 'a', to: 'b', cents: 1 }, bob)
    .thenRejected('unknown-account')
    .when('transfer', { from: 'a', to: 'a', cents: 1 }, ann)
    .thenRejected('same-account')
    .when('open-account', { account: 'a', cents: 1_000 }, bob)
    .thenRejected('account-exists')
    .thenRow('accounts', ['a'], { owner: 'ann', cents: 100 })
})

test('money for an account that does not exist comes back', () => {
  opened()
    .when('transfer', { from: 'a', to: 'nobody', cents: 60 }, ann)
    .thenAccepted()
    .thenRow('accounts', ['a'], { owner: 'ann', cents: 100 })
    .thenRow('accounts', ['nobody'], undefined)
})

test('on 4 partitions the sum is the same at every moment, also for a reader of finished transfers', async () => {
  const alarms: string[] = []
  const engine = await createEngine({
    app: bank,
    data: unhurried(memoryStorage({ partitions: 4 })),
    report: ({ message }) => alarms.push(message),
  })
  for (let i = 0; i < 8; i++)
    await engine.submit('open-account', { account: `a${i}`, cents: 1_000 }, { requestId: `open${i}` })
  const sending = Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      engine.submit(
        'transfer',
        { from: `a${i % 8}`, to: i % 20 ? `a${(i * 5 + 3) % 9}` : 'nobody', cents: 1 + ((i * 37) % 300) },
        { requestId: `t${i}` },
      ),
    ),
  )
  let [isOver, moments, busy] = [false, 0, 0]
  // Replies arrive before the money does.
  const over = sending.then(() => engine.idle())
  void over.then(() => {
    isOver = true
  })
  while (!isOver) {
    const { inAccounts, underWay, byDoneOnly, lowest } = await addUp(engine)
    assert.equal(inAccounts + underWay, 8_000)
    assert.equal(byDoneOnly, 8_000)
    assert.ok(lowest >= 0)
    moments++
    if (underWay > 0) busy++
    await new Promise(setImmediate)
  }
  assert.ok(moments > 1 && busy > 0, `${busy} of ${moments} moments had money under way`)
  await over
  const { lowest: _, ...end } = await addUp(engine)
  assert.deepEqual(end, { inAccounts: 8_000, underWay: 0, byDoneOnly: 8_000 })
  assert.deepEqual(alarms, [])
  await engine.close()
})

/**
 * Storage whose appends take some turns of the event loop, like a disk's, so that money is under way for a
 * while.
 */
function unhurried(storage: Storage): Storage {
  const { log } = storage
  return {
    log: {
      id: log.id,
      partitions: log.partitions,
      async append(partition, records) {
        for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
        return log.append(partition, records)
      },
      read: (partition, from) => log.read(partition, from),
      end: (partition) => log.end(partition),
      close: () => log.close(),
    },
    openStore: (generation, collections, anew) => storage.openStore(generation, collections, anew),
    dropStore: (generation) => storage.dropStore(generation),
    keep: (name, text) => storage.keep(name, text),
    kept: (name) => storage.kept(name),
    close: () => storage.close(),
  }
}
