import { app, reject, scopes } from 'hence'
import { z } from 'zod'

// A scope says what a partition key stands for. Requests under one key are decided one at a time.
const [product] = scopes('product')

const products = product.table('products', {
  value: z.object({ title: z.string(), stock: z.int() }),
})
// A product has many orders, so the key of a row has a second part: the order.
const orders = product.table('orders', {
  key: ['string'],
  value: z.object({ quantity: z.int(), customer: z.string(), at: z.int() }),
  indexes: { byCustomer: ['customer'] },
})

const stock = product.request('stock-product', {
  input: z.object({ product: z.string(), title: z.string(), quantity: z.int().min(1) }),
  key: (input) => input.product,
  derive(tx, { title, quantity }) {
    const row = tx.get(products) ?? { title, stock: 0 }
    tx.put(products, { title, stock: row.stock + quantity })
    return { stock: row.stock + quantity }
  },
})

const order = product.request('place-order', {
  input: z.object({
    order: z.string(),
    product: z.string(),
    quantity: z.int().min(1),
    customer: z.string(),
  }),
  key: (input) => input.product,
  derive(tx, { order, quantity, customer }) {
    const row = tx.get(products)
    if (!row) return reject('no-such-product')
    if (tx.get(orders, order)) return reject('order-exists')
    if (row.stock < quantity) return reject('out-of-stock', { stock: row.stock })
    tx.put(products, { ...row, stock: row.stock - quantity })
    tx.put(orders, order, { quantity, customer, at: tx.now })
    return { left: row.stock - quantity }
  },
})

export default app('shop', { requests: [stock, order], tables: [products, orders] })
