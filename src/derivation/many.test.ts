import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { HandClock } from '../../test/hand-clock.ts'
import { app, scopes } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

// However much follows from one record, it must not stop the engine: the next start would meet the same
// record.

const [box] = scopes('box')
const counts = box.table('counts', { value: z.object({ count: z.int() }) })
const data = z.object({ box: z.string(), wide: z.int(), deep: z.int() })
const hop = box.event('hop', { data, key: (data) => data.box })
const spread = box.request('spread', {
  input: data,
  key: (data) => data.box,
  derive: (tx, data) => tx.emit(hop, data),
})
const hopped = box.on(hop, (tx, { box, wide, deep }) => {
  tx.put(counts, { count: (tx.get(counts)?.count ?? 0) + 1 })
  if (deep > 0) for (let i = 0; i < wide; i++) tx.emit(hop, { box, wide, deep: deep - 1 })
})
const ring = box.event('ring', { data: z.object({ box: z.string() }), key: (data) => data.box })
const rung = box.on(ring, (tx) => tx.put(counts, { count: (tx.get(counts)?.count ?? 0) + 1 }))
const set = box.request('set', {
  input: z.object({ box: z.string(), from: z.int(), to: z.int(), at: z.int() }),
  key: (input) => input.box,
  derive(tx, { box, from, to, at }) {
    for (let i = from; i < to; i++) tx.schedule(ring, { box }, { at, key: String(i) })
  },
})
const house = app('house', { requests: [spread, set], tables: [counts], reactions: [hopped, rung] })

test('events beyond the bound fail, and everything else goes on', async () => {
  const codes = new Map<string, number>()
  const report = ({ message }: { message: string }) => {
    const code = /failed with ([\w-]+)/.exec(message)?.[1] ?? message
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  const engine = await createEngine({ app: house, data: memoryStorage(), report })
  const input = { box: 'a', wide: 330, deep: 2 }
  assert.equal((await engine.submit('spread', input, { requestId: '1' })).status, 'accepted')
  assert.deepEqual(await engine.get('counts', ['a']), { count: 100_000 })
  assert.deepEqual([...codes], [['too-many-events', 1 + 330 + 330 * 330 - 100_000]])
  await engine.submit('spread', { box: 'b', wide: 1, deep: 1 }, { requestId: '2' })
  assert.deepEqual(await engine.get('counts', ['b']), { count: 2 })
  await engine.close()
})

test('any number of timers may be due at once', async () => {
  const clock = new HandClock()
  const engine = await createEngine({ app: house, data: memoryStorage({ clock }), clock, report: () => {} })
  const at = clock.now() + 1_000
  for (let from = 0; from < 101_000; from += 1_000) {
    await engine.submit('set', { box: 'a', from, to: from + 1_000, at }, { requestId: `r${from}` })
  }
  clock.pass(2_000)
  await engine.idle()
  assert.deepEqual(await engine.get('counts', ['a']), { count: 101_000 })
  await engine.close()
})

test('a timer that sets itself again goes on going off', async () => {
  const [job] = scopes('job')
  const runs = job.table('runs', { value: z.object({ count: z.int() }) })
  const due = job.event('due', {
    data: z.object({ job: z.string(), everyMs: z.int() }),
    key: (data) => data.job,
  })
  const start = job.request('start', {
    input: z.object({ job: z.string(), everyMs: z.int() }),
    key: (input) => input.job,
    derive: (tx, input) => tx.schedule(due, input, { at: tx.now }),
  })
  const run = job.on(due, (tx, data) => {
    tx.put(runs, { count: (tx.get(runs)?.count ?? 0) + 1 })
    tx.schedule(due, data, { at: tx.now + data.everyMs })
  })
  const jobs = app('jobs', { requests: [start], tables: [runs], reactions: [run] })
  const clock = new HandClock()
  const codes: string[] = []
  const engine = await createEngine({
    app: jobs,
    data: memoryStorage({ clock }),
    clock,
    report: ({ message }) => codes.push(/failed with ([\w-]+)/.exec(message)?.[1] ?? message),
  })
  await engine.submit('start', { job: 'hourly', everyMs: 3_600_000 }, { requestId: '1' })
  clock.pass(3_600_000 * 1_500)
  await engine.idle()
  assert.deepEqual(await engine.get('runs', ['hourly']), { count: 1_501 })
  assert.deepEqual(codes, [])
  // A timer that sets itself for the same moment would go off without end.
  await engine.submit('start', { job: 'mad', everyMs: 0 }, { requestId: '2' })
  clock.pass(1)
  await engine.idle()
  assert.deepEqual(codes, ['chain-too-deep'])
  await engine.close()
})
