import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [account] = scopes('account')

const cents = z.int()
const balances = account.table('balances', { value: z.object({ cents }) })
const arrived = account.event('arrived', {
  data: z.object({ to: z.string(), cents }),
  key: (data) => data.to,
})
const move = account.request('move', {
  input: z.object({ account: z.string(), to: z.string(), cents }),
  key: (input) => input.account,
  derive(tx, { to, cents }) {
    tx.put(balances, { cents: (tx.get(balances)?.cents ?? 0) - cents })
    tx.emit(arrived, { to, cents })
    return null
  },
})

/** Balances alone. */
export function bare() {
  const pay = account.request('pay', {
    input: z.object({ account: z.string(), cents }),
    key: (input) => input.account,
    derive(tx, { cents }) {
      if (cents > 900) return reject('too-much')
      tx.put(balances, { cents: (tx.get(balances)?.cents ?? 0) + cents })
      return null
    },
  })
  const take = account.on(arrived, (tx, { cents }) => {
    tx.put(balances, { cents: (tx.get(balances)?.cents ?? 0) + cents })
  })
  return app('statements', { requests: [pay, move], tables: [balances], reactions: [take] })
}

/**
 * Entries, totals and peaks as well.
 * @param fills whether these are filled from the past; `throws`, `infinite`: by code that fails
 */
export function grown(fills: boolean | 'throws' | 'infinite', name = 'statements') {
  const entries = account.table('entries', {
    key: ['number'],
    value: z.object({ cents, unit: z.string() }),
    indexes: { byCents: ['cents'] },
  })
  const totals = account.table('totals', { value: z.object({ paid: cents, arrived: cents }) })
  const peaks = account.table('peaks', { value: z.object({ cents }) })
  const none = { paid: 0, arrived: 0 }
  const pay = account.request('pay', {
    version: 2,
    input: z.object({ account: z.string(), cents, unit: z.string().default('cent') }),
    upcast: { 1: (older: { account: string; cents: number }) => ({ ...older, unit: 'cent' }) },
    key: (input) => input.account,
    derive(tx, { cents, unit }) {
      if (cents > 900) return reject('too-much')
      const sum = (tx.get(balances)?.cents ?? 0) + cents
      tx.put(balances, { cents: sum })
      if (sum > (tx.get(peaks)?.cents ?? 0)) tx.put(peaks, { cents: sum })
      const [last] = tx.scan(entries, { reverse: true, limit: 1 })
      tx.put(entries, (last?.key[0] ?? 0) + 1, { cents, unit })
      const { paid, arrived } = tx.get(totals) ?? none
      tx.put(totals, { paid: paid + cents, arrived })
      return null
    },
  })
  const take = account.on(arrived, (tx, { cents }) => {
    const sum = (tx.get(balances)?.cents ?? 0) + cents
    tx.put(balances, { cents: sum })
    if (sum > (tx.get(peaks)?.cents ?? 0)) tx.put(peaks, { cents: sum })
    const { paid, arrived } = tx.get(totals) ?? none
    tx.put(totals, { paid, arrived: arrived + cents })
  })
  const past = () => [
    account.fill(entries, pay, (rows, { input: { cents, unit }, outcome }) => {
      if (outcome.status !== 'accepted') return
      const [last] = rows.scan({ reverse: true, limit: 1 })
      const number = (last?.key[0] ?? 0) + 1
      rows.put(fills === 'infinite' && number > 2 ? Number.NEGATIVE_INFINITY : number, { cents, unit })
    }),
    account.fill(totals, pay, (rows, { input: { cents }, outcome }) => {
      if (fills === 'throws' && outcome.status === 'rejected') throw new Error(`no ${cents} cents`)
      if (outcome.status !== 'accepted') return
      const { paid, arrived } = rows.get() ?? none
      rows.put({ paid: paid + cents, arrived })
    }),
    account.fill(totals, arrived, (rows, { data: { cents } }) => {
      const { paid, arrived } = rows.get() ?? none
      rows.put({ paid, arrived: arrived + cents })
    }),
    account.fill(peaks, balances, (rows, { after }) => {
      if (after && after.cents > (rows.get()?.cents ?? 0)) rows.put({ cents: after.cents })
    }),
  ]
  return app(name, {
    requests: [pay, move],
    tables: [balances, entries, totals, peaks],
    reactions: [take],
    fills: fills ? past() : [],
  })
}
