/** The app of the bench: each request reads two rows and writes both. */
import { app, scopes } from 'hence'
import { z } from 'zod'

const [account] = scopes('account')

const total = z.object({ cents: z.int(), payments: z.int() })
const accounts = account.table('accounts', { value: total })
const categories = account.table('categories', { key: ['string'], value: total })

const pay = account.request('pay', {
  input: z.object({
    account: z.string().min(1),
    to: z.string().min(1),
    cents: z.int().min(1),
    currency: z.string().length(3),
    category: z.string().min(1),
    reference: z.string(),
    note: z.string(),
  }),
  key: (input) => input.account,
  derive(tx, { category, cents }) {
    const all = tx.get(accounts) ?? { cents: 0, payments: 0 }
    const some = tx.get(categories, category) ?? { cents: 0, payments: 0 }
    tx.put(accounts, { cents: all.cents + cents, payments: all.payments + 1 })
    tx.put(categories, category, { cents: some.cents + cents, payments: some.payments + 1 })
    return { payments: all.payments + 1 }
  },
})

export default app('bench', { requests: [pay], tables: [accounts, categories] })
