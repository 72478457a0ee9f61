/** Orders that claim stock, charge, and are paid when the charge has its result. */
import { app, effect, type Mode, reject, scopes } from 'hence'
import { z } from 'zod'

export function paidOrders(mode: Mode) {
  const [product, order] = scopes('product', 'order')
  const charge = effect('charge', {
    input: z.object({ order: z.string() }),
    result: z.object({ paid: z.boolean() }),
  })
  const stock = product.capacity('stock', { limit: 1_000, mode })
  const orders = order.table('orders', { value: z.object({ state: z.enum(['paying', 'paid']) }) })
  const place = order.request('place', {
    input: z.object({ order: z.string(), product: z.string() }),
    key: (input) => input.order,
    claims: (input) => [stock.claim(input.product)],
    derive(tx, { order }) {
      if (tx.get(orders)) return reject('order-exists')
      tx.put(orders, { state: 'paying' })
      tx.effect(charge, { order })
    },
    compensate(tx) {
      tx.delete(orders)
    },
  })
  const paid = order.on(charge.result, (tx, { result }) => {
    if (result.paid) tx.put(orders, { state: 'paid' })
  })
  return app('paid-orders', {
    requests: [place],
    tables: [orders],
    constraints: [stock],
    effects: [charge],
    reactions: [paid],
  })
}
