import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createEngine, HenceError, type Reply } from 'hence'
import { partitionOf } from '../../src/log/partitions.ts'
import type * as made from '../apps/planned.ts'
import { keyCount, keyOf } from '../apps/planned.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { checkProperty, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from './crashing-storage.ts'
import { modelOf } from './model.ts'
import { type AppPlan, appPlan, kinds } from './random-app.ts'

const { plannedApp } = appsOf<typeof made>(import.meta.resolve('../apps/planned.ts'))

// Random apps and requests, some sent several times, on random numbers of partitions, with crashes in
// between. The worst result would be a reply that changes; the next worst, a row that the log does not
// explain.

const { runs } = runsOf(150)

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
type Moment =
  | { readonly send: Sent }
  | { readonly wait: number }
  | { readonly crash: true }
  | { readonly close: true }
const moment: fc.Arbitrary<Moment> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ send: sent }) },
  { weight: 6, arbitrary: fc.record({ wait: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.constant({ crash: true as const }) },
  { weight: 1, arbitrary: fc.constant({ close: true as const }) },
)

type World = [plan: AppPlan, partitions: number, checkpointRows: number, moments: Moment[], seed: number]
const worlds = fc.asyncProperty<World>(
  appPlan,
  fc.constantFrom(1, 2, 3, 8),
  fc.constantFrom(1, 7, 1000),
  fc.array(moment, { maxLength: 120 }),
  fc.nat(),
  (...world) => live(world),
)

async function live([plan, partitions, checkpointRows, moments, seed]: World): Promise<void> {
  const random = randomFrom(seed)
  const clock = { now: () => 1_790_000_000_000 + Math.floor(random() * 1000) }
  const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random })
  const planned = await plannedApp(plan)
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
  /** The first content of each id. Now and then an id is sent again with another content. */
  const first = new Map<number, Sent>()
  const replies = new Map<number, Reply>()
  const check = (request: Sent, reply: Reply) => {
    const { replayed: _, ...again } = reply
    const { replayed: __, ...before } = replies.get(request.id) ?? reply
    assert.deepEqual(again, before, 'a retry got another reply')
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
    assert.deepEqual(outcome, model.outcomes.get(`xr${id}\0`), 'a reply differs from the model of the log')
  }
  const byMix = (await engine.scan('mixes', { index: 'byMix' })).map(({ value }) => value.mix)
  assert.deepEqual(
    byMix,
    [...model.rows]
      .filter(([key]) => !key.includes('/'))
      .map(([, mix]) => mix)
      .sort((a, b) => a - b),
  )

  // A derivation from offset 0 has the same digest.
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
}

replayKept('engine-model', live)

const name = crashAt(
  'any turn of the event loop',
  `tables and replies follow from the log, ${runs} random apps`,
)
test(name, () => checkProperty('engine-model', worlds, runs))

test('the keys of the random apps are spread over all partitions', () => {
  for (const partitions of [2, 3, 8]) {
    const used = new Set(Array.from({ length: keyCount }, (_, i) => partitionOf(keyOf(i), partitions)))
    assert.ok(used.size >= Math.min(partitions, 5), `${partitions}: ${used.size}`)
  }
})
