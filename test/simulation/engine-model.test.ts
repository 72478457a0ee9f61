import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createEngine, HenceError, type Reply } from 'hence'
import { partitionOf } from '../../src/log/partitions.ts'
import { CrashingStorage } from './crashing-storage.ts'
import { modelOf } from './model.ts'
import { appPlan, keyCount, keyOf, kinds, plannedApp } from './random-app.ts'

// Random apps and requests, some of them sent twice or more, on random numbers of partitions, with crashes in
// between. Worse than anything is a reply that does not hold; next a row that the log does not explain.

const runs = Number(process.env['HENCE_RUNS'] ?? 150)

interface Sent {
  readonly id: number
  readonly kind: number
  readonly key: number
  readonly value: number
}
const sent: fc.Arbitrary<Sent> = fc.record({
  id: fc.nat(60),
  kind: fc.nat(kinds - 1),
  key: fc.nat(keyCount - 1),
  value: fc.nat(1_000_000),
})
const moment = fc.oneof(
  { weight: 20, arbitrary: fc.record({ send: sent }) },
  { weight: 6, arbitrary: fc.record({ wait: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.constant({ crash: true as const }) },
  { weight: 1, arbitrary: fc.constant({ close: true as const }) },
)

test('whatever the app, the requests, the partitions and the crashes: tables and replies are what the log says', async () => {
  await fc.assert(
    fc.asyncProperty(
      appPlan,
      fc.constantFrom(1, 2, 3, 8),
      fc.constantFrom(1, 7, 1000),
      fc.array(moment, { maxLength: 120 }),
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })),
      async (plan, partitions, checkpointRows, moments, chance) => {
        const random = () => chance.next().value
        const clock = { now: () => 1_790_000_000_000 + Math.floor(random() * 1000) }
        const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random })
        const planned = plannedApp(plan)
        const alarms: string[] = []
        const open = () =>
          createEngine({
            app: planned,
            data: storage.open(),
            checkpointRows,
            clock,
            report: ({ code, message }) => {
              if (code !== 'derivation-failed') alarms.push(`${code}: ${message}`)
            },
          })
        let engine = await open()
        /** What each id was first sent with; an id is sent with another content now and then. */
        const first = new Map<number, Sent>()
        const replies = new Map<number, Reply>()
        const check = (request: Sent, reply: Reply) => {
          const { replayed: _, ...told } = reply
          const { replayed: __, ...before } = replies.get(request.id) ?? reply
          assert.deepEqual(told, before, 'a retry got another reply')
          replies.set(request.id, reply)
        }
        const send = (request: Sent) => {
          const original = first.get(request.id)
          if (!original) first.set(request.id, request)
          engine
            .submit(
              `request-${request.kind}`,
              { key: request.key, value: request.value, hops: 0 },
              { requestId: `r${request.id}` },
            )
            .then(
              (reply) => check(request, reply),
              (error) => {
                assert.ok(error instanceof HenceError, String(error))
                if (error.code === 'engine-closed') return
                assert.equal(error.code, 'request-id-reused')
              },
            )
            .catch((error) => alarms.push(String(error)))
        }
        for (const each of moments) {
          if ('send' in each) send(each.send)
          else if ('wait' in each) for (let i = 0; i < each.wait; i++) await new Promise(setImmediate)
          else if ('crash' in each) {
            storage.crash()
            engine = await open()
          } else {
            await engine.close()
            engine = await open()
          }
        }
        await engine.idle()
        assert.deepEqual(alarms, [])

        const model = await modelOf(plan, storage.log, (key) => partitionOf(key, partitions))
        const rows = new Map<string, number>()
        for (const { key, value } of await engine.scan('mixes')) rows.set(key[0], value.mix)
        for (const { key, value } of await engine.scan('lists')) rows.set(key.join('/'), value.value)
        assert.deepEqual([...rows].sort(), [...model.rows].sort())
        for (const [id, { requestId: _, token: __, replayed: ___, ...outcome }] of replies) {
          assert.deepEqual(outcome, model.outcomes.get(`xr${id}\0`), 'a reply is not what the log says')
        }
        const byMix = (await engine.scan('mixes', { index: 'byMix' })).map(({ value }) => value.mix)
        assert.deepEqual(
          byMix,
          [...model.rows]
            .filter(([key]) => !key.includes('/'))
            .map(([, mix]) => mix)
            .sort((a, b) => a - b),
        )

        // Everything derived again from nothing is the same.
        const digest = await engine.digest()
        const anew = await createEngine({
          app: planned,
          data: {
            ...storage.open(),
            openStore: async () =>
              new CrashingStorage({ partitions: 1, clock, id: '', random }).open().openStore(0, [], true),
          },
          clock,
          report: () => {},
        })
        assert.equal(await anew.digest(), digest)
      },
    ),
    { numRuns: runs },
  )
})

test('the keys of these apps are spread over all partitions', () => {
  for (const partitions of [2, 3, 8]) {
    const used = new Set(Array.from({ length: keyCount }, (_, i) => partitionOf(keyOf(i), partitions)))
    assert.ok(used.size >= Math.min(partitions, 5), `${partitions}: ${used.size}`)
  }
})
