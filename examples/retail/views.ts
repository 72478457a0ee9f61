import { viewsOf } from 'hence'
import { z } from 'zod'
import type shop from './shop.ts'

const view = viewsOf<typeof shop>()

/** Which products were ordered on a day, and how often: the best sellers by the index `byUnits`. */
const bestSellers = view('best-sellers', {
  value: z.object({ day: z.iso.date(), units: z.int(), orders: z.int() }),
  key: ['string'],
  indexes: { byUnits: ['day', 'units'] },
  read: 'everybody',
  requests: {
    'place-order'(rows, { input, outcome }) {
      if (outcome.status !== 'accepted') return
      const day = input.at.slice(0, 10)
      for (const { stockCode, units: more } of input.lines) {
        const { units, orders } = rows.get(day, stockCode) ?? { units: 0, orders: 0 }
        rows.put(day, stockCode, { day, units: units + more, orders: orders + 1 })
      }
    },
  },
})

/** Turnover by country and month, of orders that stand. */
const turnover = view('turnover', {
  value: z.object({ orders: z.int(), amount: z.int() }),
  key: ['string'],
  tables: {
    orders(rows, { before, after }) {
      for (const [order, sign] of [
        [before, -1],
        [after, 1],
      ] as const) {
        if (order === undefined || order.state === 'cancelled' || order.state === 'sold-out') continue
        const key = [order.country, order.day.slice(0, 7)] as const
        const { orders, amount } = rows.get(...key) ?? { orders: 0, amount: 0 }
        rows.put(...key, { orders: orders + sign, amount: amount + sign * order.amount })
      }
    },
  },
})

export default [bestSellers, turnover]
