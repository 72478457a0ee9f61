import { app, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

// An account decides alone what it pays, so its balance is never below zero. Money travels as an event, which
// arrives once.
const [account] = scopes('account')

const accounts = account.table('accounts', {
  value: z.object({ owner: z.string(), cents: z.int().min(0) }),
  indexes: { byOwner: ['owner'] },
})
// Every movement of an account, in its order.
const entries = account.table('entries', {
  key: ['number'],
  value: z.object({ cents: z.int(), with: z.string(), at: z.int() }),
})

const arriving = account.event('arriving', {
  data: z.object({ from: z.string(), to: z.string(), cents: z.int().min(1) }),
  key: (data) => data.to,
})
const returned = account.event('returned', {
  data: z.object({ from: z.string(), to: z.string(), cents: z.int().min(1) }),
  key: (data) => data.from,
})

/** Changes the balance and adds the entry that explains it. */
function move(tx: Tx<'account'>, cents: number, other: string): number {
  const row = tx.get(accounts)!
  const [last] = tx.scan(entries, { reverse: true, limit: 1 })
  tx.put(entries, (last?.key[0] ?? 0) + 1, { cents, with: other, at: tx.now })
  tx.put(accounts, { ...row, cents: row.cents + cents })
  return row.cents + cents
}

const open = account.request('open-account', {
  input: z.object({ account: z.string(), owner: z.string(), cents: z.int().min(0) }),
  key: (input) => input.account,
  derive(tx, { owner, cents }) {
    if (tx.get(accounts)) return reject('account-exists')
    tx.put(accounts, { owner, cents })
  },
})

const transfer = account.request('transfer', {
  input: z.object({ from: z.string(), to: z.string(), cents: z.int().min(1) }),
  key: (input) => input.from,
  derive(tx, { from, to, cents }) {
    const row = tx.get(accounts)
    if (!row) return reject('no-such-account')
    if (from === to) return reject('same-account')
    if (row.cents < cents) return reject('too-little', { cents: row.cents })
    tx.emit(arriving, { from, to, cents })
    return { left: move(tx, -cents, to) }
  },
})

const arrive = account.on(arriving, (tx, data) => {
  if (tx.get(accounts)) move(tx, data.cents, data.from)
  else tx.emit(returned, data)
})
const giveBack = account.on(returned, (tx, { cents, to }) => {
  move(tx, cents, to)
})

export default app('ledger', {
  requests: [open, transfer],
  tables: [accounts, entries],
  reactions: [arrive, giveBack],
})
