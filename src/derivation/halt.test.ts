import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/relay.ts'
import { appsOf } from '../../test/apps.ts'
import { HenceError } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/relay.ts'))
const post = await apps.post()

const keys = ['a', 'b', 'c', 'd', 'e']
const from = keys.find((key) => partitionOf(key, 2) === 0)!
const to = keys.find((key) => partitionOf(key, 2) === 1)!

// An engine that stops in the middle of a record must apply that record after the next start, and reject
// every waiter.

/** Storage from which the rows of boxes cannot be read while it is broken. */
function breakable() {
  const storage = memoryStorage({ partitions: 2 })
  const state = { broken: true }
  return {
    state,
    data: {
      ...storage,
      async openStore(generation: number, collections: readonly string[], anew: boolean) {
        const store = await storage.openStore(generation, collections, anew)
        await store.write([['t:boxes', [['z\0', '{"count":0}']]]])
        return {
          range: store.range.bind(store),
          write: store.write.bind(store),
          view: store.view.bind(store),
          close: store.close.bind(store),
          get(collection: string, key: string) {
            if (state.broken && collection === 't:boxes')
              throw new HenceError('state-unreadable', 'operator', 'A bad block.')
            return store.get(collection, key)
          },
        }
      },
    },
  }
}

test('an event that stopped an engine while it was closing is applied by the next engine', async () => {
  const { data, state } = breakable()
  const reports: string[] = []
  const first = await createEngine({ app: post, data, report: ({ code }) => reports.push(code) })
  const sending = first.submit('send', { from, to }, { requestId: '1' })
  await Promise.all([sending, first.close()])
  assert.deepEqual(reports, ['state-unreadable'])
  state.broken = false
  const second = await createEngine({ app: post, data, report: () => {} })
  await second.idle()
  assert.deepEqual(await second.get('boxes', [to]), { count: 1 })
  await second.close()
})

/**
 * Storage whose log accepts nothing in partition 1 until a gate opens, and then fails for good; reads may be
 * delayed.
 */
function gated(storage = memoryStorage({ partitions: 2 })) {
  const gate = Promise.withResolvers<void>()
  const reading = { until: Promise.resolve() }
  const { log } = storage
  const data = {
    ...storage,
    log: {
      id: log.id,
      partitions: 2,
      end: (partition: number) => log.end(partition),
      close: () => log.close(),
      async *read(partition: number, offset: number) {
        await reading.until
        yield* log.read(partition, offset)
      },
      async append(partition: number, records: Uint8Array[]) {
        // The first record says which version of the code derives.
        if (partition === 0 || (await log.end(partition)) === 0) return log.append(partition, records)
        await gate.promise
        throw new HenceError('log-damaged', 'operator', 'The disk is gone.')
      },
    },
  }
  return { storage, data: data as never, reading, fail: () => gate.resolve() }
}

test('a read that waits for the events of a request is rejected when the engine stops', async () => {
  const { data, fail } = gated()
  const engine = await createEngine({ app: post, data, report: () => {} })
  const { token } = await engine.enqueue('send', { from, to }, { requestId: '1' })
  const reading = engine.get('boxes', [to], { after: token })
  await engine.get('boxes', [to])
  fail()
  await assert.rejects(reading, { code: 'engine-stopped' })
  await engine.close()
})

test('a retry of a request that waits for its claims is rejected when the engine stops', async () => {
  const house = await apps.house()
  const input = { trip: from, seat: to }
  const before = gated()
  const first = await createEngine({ app: house, data: before.data, report: () => {} })
  await first.enqueue('book', input, { requestId: '1' })
  before.fail()
  await first.close()

  const { data, fail, reading } = gated(before.storage)
  const second = await createEngine({ app: house, data, report: () => {} })
  const read = Promise.withResolvers<void>()
  reading.until = read.promise
  const retry = assert.rejects(second.submit('book', input, { requestId: '1' }), { code: 'engine-stopped' })
  fail()
  // Only now does the engine read the first request from the log.
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
  read.resolve()
  await retry
  await second.close()
})
