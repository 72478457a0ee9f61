import { app, type Reply, reject, scopes } from 'hence'
import { z } from 'zod'

// Accounts that count what they did: each accepted request carries its place among those of its account, and
// each payment comes in at another account by an event, so whatever is lost or done twice shows in a number.

const [account] = scopes('account')
const accounts = account.table('accounts', {
  value: z.object({ cents: z.int(), accepted: z.int(), arrived: z.int() }),
})
const none = { cents: 0, accepted: 0, arrived: 0 }
const paid = account.event('paid', {
  data: z.object({ to: z.string(), cents: z.int() }),
  key: ({ to }) => to,
})
const deposit = account.request('deposit', {
  input: z.object({ account: z.string(), cents: z.int() }),
  key: (input) => input.account,
  derive(tx, { cents }) {
    const before = tx.get(accounts) ?? none
    const after = { ...before, cents: before.cents + cents, accepted: before.accepted + 1 }
    tx.put(accounts, after)
    return { nth: after.accepted }
  },
})
const pay = account.request('pay', {
  input: z.object({ account: z.string(), to: z.string(), cents: z.int() }),
  key: (input) => input.account,
  derive(tx, { to, cents }) {
    const before = tx.get(accounts) ?? none
    if (before.cents < cents) return reject('not-enough', { cents: before.cents })
    const after = { ...before, cents: before.cents - cents, accepted: before.accepted + 1 }
    tx.put(accounts, after)
    tx.emit(paid, { to, cents })
    return { nth: after.accepted }
  },
})
const arrives = account.on(paid, (tx, { cents }) => {
  const before = tx.get(accounts) ?? none
  tx.put(accounts, { ...before, cents: before.cents + cents, arrived: before.arrived + 1 })
})
export const bank = app('bank', { requests: [deposit, pay], tables: [accounts], reactions: [arrives] })

/** A request to the bank. */
export type Sent =
  | {
      readonly id: string
      readonly type: 'deposit'
      readonly input: { readonly account: string; readonly cents: number }
    }
  | {
      readonly id: string
      readonly type: 'pay'
      readonly input: { readonly account: string; readonly to: string; readonly cents: number }
    }

export interface Account {
  cents: number
  /** Requests to this account that were accepted. */
  accepted: number
  /** Payments that came in. */
  arrived: number
}

/**
 * What the accounts must hold when each accepted request counts once.
 * @throws Error when two accepted requests were told the same place, or a place was told to none
 */
export function accountsOf(
  decided: Iterable<{ readonly sent: Sent; readonly reply: Reply }>,
): Map<string, Account> {
  const all = new Map<string, Account>()
  const places = new Map<string, Set<number>>()
  const at = (name: string) => {
    let found = all.get(name)
    if (found === undefined) {
      found = { ...none }
      all.set(name, found)
    }
    return found
  }
  for (const { sent, reply } of decided) {
    if (reply.status === 'rejected') continue
    if (reply.status === 'failed') throw new Error(`${sent.id} failed: ${reply.message}`)
    const { account: name, cents } = sent.input
    const from = at(name)
    from.accepted++
    from.cents += sent.type === 'deposit' ? cents : -cents
    if (sent.type === 'pay') {
      const to = at(sent.input.to)
      to.cents += cents
      to.arrived++
    }
    const { nth } = reply.value as { nth: number }
    const taken = places.get(name) ?? new Set()
    if (taken.has(nth))
      throw new Error(`two requests to ${name} are its number ${nth}, ${sent.id} one of them`)
    places.set(name, taken.add(nth))
  }
  for (const [name, { accepted }] of all) {
    for (let nth = 1; nth <= accepted; nth++) {
      if (!places.get(name)?.has(nth))
        throw new Error(`number ${nth} of ${accepted} at ${name} was told to none`)
    }
  }
  return all
}
