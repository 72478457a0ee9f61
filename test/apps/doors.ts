import { app, scopes } from 'hence'
import { z } from 'zod'

let calls = 0
export const [box, lock] = scopes('box', 'lock')
const taken = lock.unique('taken')
const boxes = box.table('boxes', { value: z.object({ count: z.int() }) })
const input = z.object({ box: z.string(), at: z.int() })
const ring = box.event('ring', { data: input, key: ({ box }) => box })
const set = box.request('set', {
  input,
  key: ({ box }) => box,
  derive(tx, input) {
    tx.schedule(ring, input, { at: input.at })
  },
})
const rung = box.on(ring, (tx) => tx.put(boxes, { count: ++calls }))
const take = box.request('take', {
  input: z.object({ box: z.string(), lock: z.string() }),
  key: ({ box }) => box,
  claims: ({ lock }) => [taken.claim(lock)],
  derive(tx) {
    tx.put(boxes, { count: ++calls })
  },
})
export const house = app('house', {
  requests: [set, take],
  tables: [boxes],
  reactions: [rung],
  constraints: [taken],
})
