import { app, reject, scopes } from 'hence'
import { z } from 'zod'

export const [account, ledger] = scopes('account', 'ledger')
const accounts = account.table('accounts', {
  value: z.object({ owner: z.string(), cents: z.int() }),
  indexes: { byOwner: ['owner'] },
  read: { index: 'byOwner', equals: (who) => who.id },
})
const sums = ledger.table('sums', { value: z.object({ cents: z.int() }) })
const entries = account.table('entries', { value: z.object({ cents: z.int() }), key: ['number'] })
const paid = ledger.event('paid', { data: z.object({ cents: z.int() }), key: () => 'all' })
const deposit = account.request('deposit', {
  input: z.object({ account: z.string(), cents: z.int().min(1) }),
  key: (input) => input.account,
  derive(tx, { cents }) {
    const row = tx.get(accounts)
    if (row && row.owner !== tx.principal) return reject('not-yours', { cents })
    if (cents === 13) throw new Error('unlucky')
    const after = (row?.cents ?? 0) + cents
    tx.put(accounts, { owner: tx.principal, cents: after })
    tx.put(entries, tx.scan(entries).length, { cents })
    tx.emit(paid, { cents })
    return { cents: after }
  },
})
export const count = ledger.on(paid, (tx, { cents }) => {
  tx.put(sums, { cents: (tx.get(sums)?.cents ?? 0) + cents })
})
export const bank = app('bank', {
  requests: [deposit],
  tables: [accounts, entries, sums],
  reactions: [count],
})
