import { viewsOf } from 'hence'
import { z } from 'zod'
import type { sales } from './sales.ts'

const view = viewsOf<typeof sales>()
const value = z.object({ n: z.int() })

/** Counts orders, and throws at the third. */
const throws = view('throws', {
  value,
  tables: {
    orders(rows) {
      const n = (rows.get('orders')?.n ?? 0) + 1
      rows.put('orders', { n })
      if (n === 3) throw new Error('three is too many')
    },
  },
})

/** Does not end at the third order. */
const endless = view('endless', {
  value,
  tables: {
    orders(rows) {
      const n = (rows.get('orders')?.n ?? 0) + 1
      rows.put('orders', { n })
      while (n === 3);
    },
  },
})

/** Looks at the clock, which a fold must not. */
const impure = view('impure', {
  value,
  tables: { orders: (rows) => rows.put('now', { n: Date.now() }) },
})

const counts = view('counts', {
  value,
  tables: { orders: (rows) => rows.put('orders', { n: (rows.get('orders')?.n ?? 0) + 1 }) },
})

export default [throws, endless, impure, counts]
