import { app, reject, scopes } from 'hence'
import { z } from 'zod'

export const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ sum: z.number(), note: z.string().optional() }) })
const things = box.table('boxThings', { key: ['string', 'number'], value: z.object({ n: z.number() }) })
export const put = box.request('put', {
  input: z.object({ box: z.string(), n: z.number(), note: z.string().optional() }),
  key: (input) => input.box,
  derive(tx, { n, note }) {
    if (n < 0) return reject('too-few', { n })
    const { sum } = tx.get(boxes) ?? { sum: 0 }
    tx.put(boxes, { sum: sum + n, note })
    tx.put(things, `t${n}`, n / 2, { n })
    return { sum: sum + n }
  },
})
const clear = box.request('clear', {
  input: z.object({ box: z.string() }),
  key: (input) => input.box,
  derive(tx) {
    tx.delete(boxes)
    for (const { key } of tx.scan(things)) tx.delete(things, ...key)
  },
})
const idle = box.request('idle', {
  input: z.object({ box: z.string() }),
  key: (input) => input.box,
  derive: () => null,
})
export const store = app('store', { requests: [put, clear, idle], tables: [boxes, things] })

const numbered = box.table('boxThings', { key: ['number'], value: z.object({ n: z.number() }) })
export const thinner = app('store', {
  requests: [
    box.request('put', {
      input: z.object({ box: z.string(), n: z.number(), note: z.string().optional() }),
      key: (input) => input.box,
      derive(tx, { n }) {
        tx.put(numbered, n, { n: -n })
        return { sum: 0 }
      },
    }),
    clear,
    idle,
  ],
  tables: [numbered],
})
