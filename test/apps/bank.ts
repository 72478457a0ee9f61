import { type App, app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [account, till] = scopes('account', 'till')

export interface Variant {
  /** The fee of each payment, in cents. */
  readonly fee?: number
  /** Larger payments are rejected. */
  readonly most?: number
  /** Payments go through the till of the payer's first letter, not directly. */
  readonly detour?: boolean
  /** Added to the keys of accounts. */
  readonly suffix?: string
  /** The text of a statement. */
  readonly statement?: 'none' | 'paid' | 'paid a lot'
  readonly corrects?: boolean
  readonly indexed?: boolean
  /** After how many milliseconds a large payment counts as late. */
  readonly lateMs?: number
  /** Each payee accepts a limited number of payments; further ones are rejected or compensated. */
  readonly places?: { readonly limit: number; readonly mode: 'strict' | 'loose' }
}

/** Stays exact however many moves there are, so that their order shows. */
const folded = (moves: number) => moves % 1_000_000_007

const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })

/** One version of a bank that moves money between accounts of all partitions. */
export function bank(variant: Variant = {}) {
  const {
    fee = 0,
    most = 1_000,
    detour = false,
    suffix = '',
    statement = 'none',
    lateMs = 5,
    places,
  } = variant
  const rename = (name: string) => name + suffix
  const { limit = 1, mode = 'strict' } = places ?? {}
  const room = till.capacity('room', { limit, mode })
  const accounts = account.table('accounts', {
    value: z.object({ cents: z.int(), moves: z.int() }),
    ...(variant.indexed && { indexes: { byCents: ['cents'] } }),
  })
  const tills = till.table('tills', { value: z.object({ count: z.int() }) })
  const paid = account.event('paid', {
    data: z.object({ to: z.string(), cents: z.int() }),
    key: ({ to }) => to,
  })
  const passed = till.event('passed', {
    data: z.object({ till: z.string(), to: z.string(), cents: z.int() }),
    key: (data) => data.till,
  })
  const late = account.event('late', { data: z.object({ to: z.string() }), key: ({ to }) => to })
  const pay = account.request('pay', {
    input: z.object({ from: z.string(), to: z.string(), cents: z.int() }),
    key: ({ from }) => rename(from),
    claims: ({ to }) => (places ? [room.claim(to, 1)] : []),
    compensate(tx, { from, to, cents }) {
      const { cents: had, moves } = tx.get(accounts)!
      tx.put(accounts, { cents: had + cents, moves: folded(moves * 2) })
      tx.emit(paid, { to: rename(to), cents: -cents })
      tx.effect(letter, { to: from, text: `no room at ${to} for ${cents}` })
    },
    derive(tx, { from, to, cents }) {
      if (cents > most) return reject('too-much')
      const { cents: had, moves } = tx.get(accounts) ?? { cents: 0, moves: 0 }
      tx.put(accounts, { cents: had - cents - fee, moves: folded(moves + 1) })
      if (detour) tx.emit(passed, { till: from[0]!, to: rename(to), cents })
      else tx.emit(paid, { to: rename(to), cents })
      if (cents % 7 === 0)
        tx.schedule(late, { to: rename(from) }, { at: tx.now + lateMs, key: String(cents) })
      if (statement !== 'none' && cents % 5 === 0)
        tx.effect(letter, { to: from, text: `${statement} ${cents}` })
      return { left: had - cents - fee }
    },
  })
  const arrives = account.on(paid, (tx, { cents }) => {
    const { cents: had, moves } = tx.get(accounts) ?? { cents: 0, moves: 0 }
    tx.put(accounts, { cents: had + cents, moves: folded(moves * 3 + 1) })
  })
  const passes = till.on(passed, (tx, { to, cents }) => {
    tx.put(tills, { count: (tx.get(tills)?.count ?? 0) + 1 })
    tx.emit(paid, { to, cents })
  })
  const isLate = account.on(late, (tx) => {
    const { cents, moves } = tx.get(accounts)!
    tx.put(accounts, { cents, moves: folded(moves + 1_000) })
    tx.emit(paid, { to: rename('a1'), cents: 0 })
  })
  const sorry = () =>
    account.correct((tx, correction) => {
      if (correction.kind === 'outcome')
        tx.effect(letter, {
          to: tx.key,
          text: `sorry: ${correction.before.status} → ${correction.after.status}`,
        })
      else if (correction.kind === 'effect')
        tx.effect(letter, { to: tx.key, text: `not ${JSON.stringify(correction.before)}` })
    })
  return app('bank', {
    requests: [pay],
    tables: [accounts, tills],
    constraints: [room],
    reactions: [arrives, passes, isLate, ...(variant.corrects ? [sorry()] : [])],
    effects: [letter],
  }) as App
}
