/**
 * Money moves between accounts, perhaps in different partitions, and no cent is lost or made.
 *
 * A transfer is decided under the key of the paying account, which has its balance. So no balance is ever
 * below zero, and no constraint is needed. From there the money travels as an event, which arrives exactly
 * once in effect. The transfer is under way until the other account has answered.
 */
import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [account] = scopes('account')

const name = z.string().min(1).max(64)
const cents = z.int().min(1)

export const accounts = account.table('accounts', {
  value: z.object({ owner: z.string(), cents: z.int().min(0) }),
  indexes: { byOwner: ['owner'] },
  read: { index: 'byOwner', equals: (who) => who.id },
})
/** Transfers that an account sent, by id. */
export const transfers = account.table('transfers', {
  key: ['string'],
  value: z.object({ to: name, cents, state: z.enum(['under-way', 'done', 'returned']) }),
  indexes: { byState: ['state'] },
})
/** Transfers that an account received, by the same id. A finished transfer has a row here. */
export const receipts = account.table('receipts', {
  key: ['string'],
  value: z.object({ from: name, cents }),
})

const arriving = account.event('arriving', {
  data: z.object({ transfer: z.string(), from: name, to: name, cents }),
  key: (data) => data.to,
})
const answered = account.event('answered', {
  data: z.object({ transfer: z.string(), from: name, isTaken: z.boolean() }),
  key: (data) => data.from,
})

const openAccount = account.request('open-account', {
  input: z.object({ account: name, cents: z.int().min(0) }),
  key: (input) => input.account,
  derive(tx, { cents }) {
    if (tx.get(accounts)) return reject('account-exists')
    tx.put(accounts, { owner: tx.principal, cents })
  },
})

const transfer = account.request('transfer', {
  input: z.object({ from: name, to: name, cents }),
  key: (input) => input.from,
  derive(tx, { from, to, cents }) {
    const row = tx.get(accounts)
    if (!row || row.owner !== tx.principal) return reject('unknown-account')
    if (from === to) return reject('same-account')
    if (row.cents < cents) return reject('too-little-money', { cents: row.cents })
    const transfer = tx.uuid()
    tx.put(accounts, { ...row, cents: row.cents - cents })
    tx.put(transfers, transfer, { to, cents, state: 'under-way' })
    tx.emit(arriving, { transfer, from, to, cents })
    return { transfer }
  },
})

const onArriving = account.on(arriving, (tx, { transfer, from, cents }) => {
  const row = tx.get(accounts)
  if (row) {
    tx.put(accounts, { ...row, cents: row.cents + cents })
    tx.put(receipts, transfer, { from, cents })
  }
  tx.emit(answered, { transfer, from, isTaken: row !== undefined })
})

/** Money for an account that does not exist goes back. */
const onAnswered = account.on(answered, (tx, { transfer, isTaken }) => {
  const sent = tx.get(transfers, transfer)!
  tx.put(transfers, transfer, { ...sent, state: isTaken ? 'done' : 'returned' })
  if (isTaken) return
  const row = tx.get(accounts)!
  tx.put(accounts, { ...row, cents: row.cents + sent.cents })
})

const bank = app('transfers', {
  requests: [openAccount, transfer],
  tables: [accounts, transfers, receipts],
  reactions: [onArriving, onAnswered],
})
export default bank
export type Bank = typeof bank
