import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [order, product, customer] = scopes('order', 'product', 'customer')
const stock = product.capacity('stock', { mode: 'strict', limit: 40 })
export const orders = order.table('orders', {
  value: z.object({ sku: z.string(), customer: z.string(), cents: z.int() }),
})
const totals = customer.table('totals', { value: z.object({ cents: z.int() }) })
const bought = customer.event('bought', {
  data: z.object({ customer: z.string(), order: z.string(), cents: z.int() }),
  key: (data) => data.customer,
})
/** Orders claim units of a product, so that they wait for it, and add to what their customer has bought. */
const buy = order.request('buy', {
  input: z.object({ order: z.string(), sku: z.string(), customer: z.string(), cents: z.int() }),
  key: (input) => input.order,
  claims: (input) => [stock.claim(input.sku, 1)],
  derive(tx, { order, sku, customer, cents }) {
    if (tx.get(orders)) return reject('order-exists')
    tx.put(orders, { sku, customer, cents })
    tx.emit(bought, { customer, order, cents })
    return { cents }
  },
})
const cancel = order.request('cancel', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive(tx) {
    if (!tx.delete(orders)) return reject('no-order')
    tx.release(stock)
    return null
  },
})
const add = customer.on(bought, (tx, { cents }) => {
  tx.put(totals, { cents: (tx.get(totals)?.cents ?? 0) + cents })
})
export const sales = app('sales', {
  requests: [buy, cancel],
  tables: [orders, totals],
  reactions: [add],
  constraints: [stock],
})
export default sales
