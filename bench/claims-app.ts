/** Orders with a strict claim, one on each of two keys, a loose claim, or none; otherwise they are the same. */
import { app, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [order, product] = scopes('order', 'product')

const orders = order.table('orders', { value: z.object({ sku: z.string(), at: z.number() }) })
const strictly = product.capacity('strictly', { mode: 'strict', limit: 1_000_000_000 })
const loosely = product.capacity('loosely', { mode: 'loose', limit: 1_000_000_000 })

const input = z.object({ order: z.string(), sku: z.string(), other: z.string() })
type Input = z.infer<typeof input>
const key = ({ order }: Input) => order
const derive = (tx: Tx<'order'>, { sku }: Input) => tx.put(orders, { sku, at: tx.now })

export default app('claims', {
  requests: [
    order.request('plain', { input, key, derive }),
    order.request('strict', { input, key, claims: ({ sku }) => [strictly.claim(sku)], derive }),
    order.request('two', {
      input,
      key,
      claims: ({ sku, other }) => [strictly.claim(sku), strictly.claim(other)],
      derive,
    }),
    order.request('loose', { input, key, claims: ({ sku }) => [loosely.claim(sku)], derive }),
  ],
  tables: [orders],
  constraints: [strictly, loosely],
})
