import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type * as made from '../../test/apps/post.ts'
import { appsOf } from '../../test/apps.ts'
import { HenceError } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/post.ts'))
const post = await apps.post()

for (const reads of ['fails', 'works'] as const) {
  test(`an engine closes though nothing can be written any more, when reading ${reads}; the next one finishes`, async () => {
    const storage = memoryStorage({ partitions: 8 })
    let isBroken = false
    let isFilling = false
    const broken = () => new HenceError('log-write-failed', 'retry', 'The disk is full.')
    const { log } = storage
    const data = {
      ...storage,
      log: {
        ...log,
        append: async (partition: number, records: readonly Uint8Array[]) => {
          if (isBroken) throw broken()
          const appended = await log.append(partition, records)
          // Requests are still written; the events that follow from them are not.
          isBroken = isFilling
          return appended
        },
        end: async (partition: number) => {
          if (isBroken && reads === 'fails') throw broken()
          return log.end(partition)
        },
      },
    }
    const reports: string[] = []
    const engine = await createEngine({ app: post, data, report: ({ code }) => reports.push(code) })
    isFilling = true
    const input = { from: 'a', to: 'h' }
    assert.equal((await engine.submit('send', input, { requestId: '1' })).status, 'accepted')
    await engine.close()
    assert.ok(reports.includes('log-write-failed'))
    isFilling = isBroken = false
    const next = await createEngine({ app: post, data: storage, report: () => {} })
    await next.idle()
    assert.deepEqual(await next.get('boxes', ['h']), { got: 1 })
    await next.close()
  })
}

test('with several partitions, what follows from a small batch goes along with what is queued', async () => {
  const storage = memoryStorage({ partitions: 8 })
  const { log } = storage
  const sizes: number[] = []
  let opened = Promise.resolve()
  const data = {
    ...storage,
    log: {
      ...log,
      append: async (partition: number, records: readonly Uint8Array[]) => {
        if (partition === partitionOf('a', 8)) sizes.push(records.length)
        await opened
        return log.append(partition, records)
      },
    },
  }
  const engine = await createEngine({ app: post, data, report: () => {} })
  sizes.length = 0
  const { promise, resolve: open } = Promise.withResolvers<void>()
  opened = promise
  const send = (requestId: string) => engine.submit('send', { from: 'a', to: 'h' }, { requestId })
  const first = send('1')
  while (sizes.length === 0) await turn()
  const second = send('2')
  while (engine.stats().inFlight < 2) await turn()
  open()
  await first
  await Promise.all([second, send('3')])
  assert.deepEqual(sizes, [1, 2])
  await engine.close()
})

test('an engine is idle between two requests of one client, also with several partitions', async () => {
  const engine = await createEngine({ app: post, data: memoryStorage({ partitions: 8 }), report: () => {} })
  let isIdle = false
  for (let n = 0; !isIdle; n++) {
    assert.ok(n < 1_000, 'it is not idle in a thousand requests')
    const sent = engine.submit('send', { from: 'a', to: 'a' }, { requestId: `${n}` })
    if (n === 0) void engine.idle().then(() => (isIdle = true))
    await sent
  }
  await engine.close()
})
