import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/post.ts'
import { appsOf } from '../../test/apps.ts'
import { HenceError } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
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
        id: log.id,
        partitions: log.partitions,
        append: async (partition: number, records: readonly Uint8Array[]) => {
          if (isBroken) throw broken()
          const appended = await log.append(partition, records)
          // Requests are still written; the events that follow from them are not.
          isBroken = isFilling
          return appended
        },
        read: (partition: number, from: number) => log.read(partition, from),
        end: async (partition: number) => {
          if (isBroken && reads === 'fails') throw broken()
          return log.end(partition)
        },
        close: () => log.close(),
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
