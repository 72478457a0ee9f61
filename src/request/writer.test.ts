import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { app, HenceError, scopes } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ got: z.int() }) })
const sent = box.event('sent', { data: z.object({ to: z.string() }), key: ({ to }) => to })
const send = box.request('send', {
  input: z.object({ from: z.string(), to: z.string() }),
  key: ({ from }) => from,
  derive: (tx, { to }) => tx.emit(sent, { to }),
})
const receive = box.on(sent, (tx) => tx.put(boxes, { got: (tx.get(boxes)?.got ?? 0) + 1 }))
const post = app('post', { requests: [send], tables: [boxes], reactions: [receive] })

for (const reads of ['fails', 'works'] as const) {
  test(`an engine closes though nothing can be written any more, when reading ${reads}; the next one finishes`, async () => {
    const storage = memoryStorage({ partitions: 8 })
    let isBroken = false
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
          isBroken = true
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
    const input = { from: 'a', to: 'h' }
    assert.equal((await engine.submit('send', input, { requestId: '1' })).status, 'accepted')
    await engine.close()
    assert.ok(reports.includes('log-write-failed'))
    isBroken = false
    const next = await createEngine({ app: post, data: storage, report: () => {} })
    await next.idle()
    assert.deepEqual(await next.get('boxes', ['h']), { got: 1 })
    await next.close()
  })
}
