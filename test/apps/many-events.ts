import { app, scopes } from 'hence'
import { z } from 'zod'

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
export const house = app('house', { requests: [spread, set], tables: [counts], reactions: [hopped, rung] })

export function jobs() {
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
  return app('jobs', { requests: [start], tables: [runs], reactions: [run] })
}
