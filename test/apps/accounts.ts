import { app, reject, scopes } from 'hence'
import { z } from 'zod'

// Accounts that pay each other: a small app whose balances are wrong at once if anything is lost, doubled or
// reordered.
const [account] = scopes('account')
export const accounts = account.table('accounts', {
  value: z.object({ cents: z.int() }),
  indexes: { byCents: ['cents'] },
})
const entries = account.table('entries', {
  value: z.object({ cents: z.int(), at: z.number() }),
  key: ['number'],
})
const paid = account.event('paid', {
  data: z.object({ to: z.string(), cents: z.int() }),
  key: (data) => data.to,
})
const deposit = account.request('deposit', {
  input: z.object({ account: z.string(), cents: z.int().positive().default(100) }),
  key: (input) => input.account,
  derive(tx, { cents }) {
    const before = tx.get(accounts)?.cents ?? 0
    tx.put(accounts, { cents: before + cents })
    tx.put(entries, tx.scan(entries).length, { cents, at: tx.now })
    return { cents: before + cents, id: tx.uuid(), by: tx.principal }
  },
})
const pay = account.request('pay', {
  input: z.object({ from: z.string(), to: z.string(), cents: z.int().positive() }),
  key: (input) => input.from,
  derive(tx, { to, cents }) {
    const before = tx.get(accounts)?.cents ?? 0
    tx.put(accounts, { cents: before - cents })
    tx.emit(paid, { to, cents })
    if (before < cents) return reject('not-enough', { cents: before })
    return { cents: before - cents }
  },
})
const explode = account.request('explode', {
  input: z.object({ account: z.string() }),
  key: (input) => input.account,
  derive(tx) {
    tx.put(accounts, { cents: -1 })
    throw new TypeError('boom')
  },
})
const arrived = account.on(paid, (tx, { cents, to }) => {
  tx.put(accounts, { cents: (tx.get(accounts)?.cents ?? 0) + cents })
  if (to.startsWith('broken')) throw new Error('no such bank')
})
export const bank = app('bank', {
  requests: [deposit, pay, explode],
  tables: [accounts, entries],
  reactions: [arrived],
})

export function doubled() {
  return app('bank', {
    requests: [
      account.request('deposit', {
        input: deposit.input,
        key: (input) => input.account,
        derive(tx, { cents }) {
          tx.put(accounts, { cents: cents * 2 })
          return { cents: cents * 2, id: '', by: '' }
        },
      }),
      pay,
      explode,
    ],
    tables: [accounts, entries],
    reactions: [arrived],
  })
}

let calls = 0
/** Derivations that dev mode must show. */
const ways = {
  'a variable of the module': () => ({ count: ++calls }),
  'a row that does not fit its schema': (tx: never) => putBadRow(tx),
  'a promise': async () => ({ count: 1 }),
  'the clock': () => ({ count: Date.now() }),
}
function putBadRow(tx: { put(table: unknown, row: unknown): void }): void {
  tx.put(accounts, { cents: 'many' })
}

export function cheating(way: keyof typeof ways, checksSchemas = false) {
  const cheat = account.request('cheat', {
    input: z.object({ account: z.string() }),
    key: (input) => input.account,
    derive: ways[way] as never,
  })
  return app('cheating', { requests: [cheat], tables: [accounts], checksSchemas })
}
