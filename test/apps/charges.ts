import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

export const [order] = scopes('order')
export const charge = effect('charge', {
  input: z.object({ cents: z.int() }),
  result: z.object({ paid: z.boolean() }),
})
export const note = effect('note', { input: z.object({ text: z.string() }) })
const orders = order.table('orders', {
  value: z.object({ state: z.string(), error: z.string().optional() }),
})
export const place = order.request('place', {
  input: z.object({ order: z.string(), cents: z.int() }),
  key: (input) => input.order,
  derive(tx, { cents }) {
    tx.put(orders, { state: 'paying' })
    tx.effect(charge, { cents })
    if (cents < 0) return reject('no-such-price')
    if (cents === 0) throw new Error('boom')
  },
})
export const remark = order.request('remark', {
  input: z.object({ order: z.string(), times: z.int() }),
  key: (input) => input.order,
  derive(tx, { times }) {
    for (let i = 0; i < times; i++) tx.effect(note, { text: `${tx.key} ${i}` })
  },
})
const charged = order.on(charge.result, (tx, { id, input, result }) => {
  tx.put(orders, { state: result.paid ? `paid ${input.cents}` : 'declined' })
  tx.effect(note, { text: id })
})
const notCharged = order.on(charge.dead, (tx, { error }) => {
  tx.put(orders, { state: 'given up', error })
})
export const shop = app('shop', {
  requests: [place, remark],
  tables: [orders],
  reactions: [charged, notCharged],
  effects: [charge, note],
})

export function house() {
  const [box] = scopes('box')
  const any = z.any()
  const ask = effect('ask', { input: any, result: any })
  const boxes = box.table('boxes', { value: z.object({ got: z.string() }) })
  const put = box.request('put', {
    input: z.object({ box: z.string(), text: z.string() }),
    key: (input) => input.box,
    derive(tx, { text }) {
      tx.effect(ask, { text })
    },
  })
  const answered = box.on(ask.result, (tx, { input, result }) => {
    tx.put(boxes, { got: `${input.text.length} ${result.length} ${Object.isFrozen(result)}` })
  })
  const unanswered = box.on(ask.dead, (tx, { error }) => {
    tx.put(boxes, { got: `${error.length} ${error.codePointAt(error.length - 1)}` })
  })
  return app('house', {
    requests: [put],
    tables: [boxes],
    reactions: [answered, unanswered],
    effects: [ask],
  })
}
