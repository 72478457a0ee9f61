/** An app for crash tests: it charges for every order, accepts more orders than it has stock, and apologises. */
import { app, effect, scopes } from 'hence'
import { z } from 'zod'

const [product, order] = scopes('product', 'order')

const charge = effect('charge', {
  input: z.object({ order: z.string(), cents: z.int() }),
  result: z.object({ receipt: z.string() }),
})
const apology = effect('apology', {
  input: z.object({ to: z.string(), subject: z.string(), text: z.string() }),
})
const stock = product.capacity('stock', { mode: 'loose', limit: 5 })
const orders = order.table('orders', {
  value: z.object({ state: z.enum(['paying', 'paid', 'sorry']), receipt: z.string().optional() }),
  indexes: { byState: ['state'] },
})
const place = order.request('place', {
  input: z.object({ order: z.string(), sku: z.string(), cents: z.int() }),
  key: (input) => input.order,
  claims: ({ sku }) => [stock.claim(sku, 1)],
  derive(tx, { order, cents }) {
    tx.put(orders, { state: 'paying' })
    tx.effect(charge, { order, cents })
  },
  compensate(tx, { order, sku }) {
    tx.put(orders, { ...tx.get(orders), state: 'sorry' })
    tx.effect(apology, {
      to: `${order}@example.org`,
      subject: `Your order ${order}`,
      text: `Sorry, ${sku} ran out.`,
    })
  },
})
const charged = order.on(charge.result, (tx, { result }) => {
  const { state } = tx.get(orders)!
  tx.put(orders, { state: state === 'paying' ? 'paid' : state, receipt: result.receipt })
})

export default app('overbooked', {
  requests: [place],
  tables: [orders],
  constraints: [stock],
  effects: [charge, apology],
  reactions: [charged],
})
