import { viewsOf } from 'hence'
import { z } from 'zod'
import type { sales } from './sales.ts'

const view = viewsOf<typeof sales>()

/** Units and cents of a product, over all orders that stand. */
const bySku = view('by-sku', {
  value: z.object({ orders: z.int(), cents: z.int() }),
  indexes: { byCents: ['cents'] },
  read: 'everybody',
  sql: true,
  tables: {
    orders(rows, { before, after }) {
      for (const [row, sign] of [
        [before, -1],
        [after, 1],
      ] as const) {
        if (row === undefined) continue
        const { orders, cents } = rows.get(row.sku) ?? { orders: 0, cents: 0 }
        rows.put(row.sku, { orders: orders + sign, cents: cents + sign * row.cents })
      }
    },
  },
})

/** Every message that a view gets, numbered: a rebuild must see the same in the same order. */
const journal = view('journal', {
  value: z.object({ text: z.string() }),
  key: ['number'],
  sql: 'lines',
  tables: {
    orders: (rows, change) => note(rows, 'orders', change),
    totals: (rows, change) => note(rows, 'totals', change),
  },
  requests: {
    buy: (rows, request) => note(rows, 'buy', request),
    cancel: (rows, request) => note(rows, 'cancel', request),
  },
  events: { bought: (rows, event) => note(rows, 'bought', event) },
})

interface Lines {
  scan(query: { readonly reverse: true; readonly limit: 1 }): readonly { readonly key: readonly unknown[] }[]
  put(name: string, n: number, value: { readonly text: string }): void
}

function note(rows: Lines, kind: string, message: object): void {
  const last = rows.scan({ reverse: true, limit: 1 })[0]?.key[1] ?? 0
  rows.put('line', Number(last) + 1, { text: `${kind} ${JSON.stringify(message)}` })
}

export default [bySku, journal]
