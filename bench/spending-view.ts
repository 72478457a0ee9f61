/** The view of the bench: what each account has spent, by currency, and when it last did. */
import { viewsOf } from 'hence'
import { z } from 'zod'
import type app from './app.ts'

const view = viewsOf<typeof app>()

const spending = view('spending', {
  value: z.object({ cents: z.int(), payments: z.int(), lastAt: z.number() }),
  key: ['string'],
  requests: {
    pay(rows, { input, outcome, at }) {
      if (outcome.status !== 'accepted') return
      const { account, currency } = input
      const { cents, payments } = rows.get(account, currency) ?? { cents: 0, payments: 0 }
      rows.put(account, currency, { cents: cents + input.cents, payments: payments + 1, lastAt: at })
    },
  },
})

export default [spending]
