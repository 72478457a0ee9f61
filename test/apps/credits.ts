/** Payments to accounts. Newer code opens the account first, or says after each payment that it is seen. */
import { app, scopes } from 'hence'
import { z } from 'zod'

export function credits(how: 'credits' | 'opens first' | 'marks after') {
  const [payer, account] = scopes('payer', 'account')
  const data = z.object({ account: z.string(), cents: z.int() })
  const opened = account.event('opened', { data, key: (data) => data.account })
  const credited = account.event('credited', { data, key: (data) => data.account })
  const marked = account.event('marked', { data, key: (data) => data.account })
  const balances = account.table('balances', { value: z.object({ cents: z.int(), seen: z.int() }) })
  const pay = payer.request('pay', {
    input: z.object({ payer: z.string(), account: z.string(), cents: z.int() }),
    key: (input) => input.payer,
    derive(tx, { account, cents }) {
      if (how === 'opens first') tx.emit(opened, { account, cents: 0 })
      tx.emit(credited, { account, cents })
      if (how === 'marks after') tx.emit(marked, { account, cents })
    },
  })
  const onOpened = account.on(opened, (tx) => tx.put(balances, { cents: 0, seen: 0 }))
  const onCredited = account.on(credited, (tx, { cents }) => {
    const { cents: before, seen } = tx.get(balances) ?? { cents: 0, seen: 0 }
    tx.put(balances, { cents: before + cents, seen })
  })
  const onMarked = account.on(marked, (tx) => {
    const { cents } = tx.get(balances) ?? { cents: 0 }
    tx.put(balances, { cents, seen: cents })
  })
  return app('credits', {
    requests: [pay],
    tables: [balances],
    reactions: [onOpened, onCredited, onMarked],
  })
}
