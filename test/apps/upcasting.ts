import { app, reject, scopes } from 'hence'
import { z } from 'zod'

export function bank() {
  const [account] = scopes('account')
  const accounts = account.table('accounts', { value: z.object({ cents: z.int(), currency: z.string() }) })

  // Version 1 had euros, as text; version 2 has cents; version 3 adds the currency.
  const deposit = account.request('deposit', {
    version: 3,
    upcast: {
      1: ({ account, euros }) => ({ account, cents: Math.round(Number(euros) * 100) }),
      2: (older) => ({ ...older, currency: 'EUR' }),
    },
    input: z.object({ account: z.string(), cents: z.int(), currency: z.string() }),
    key: (input) => input.account,
    derive(tx, { cents, currency }) {
      const row = tx.get(accounts) ?? { cents: 0, currency }
      if (row.currency !== currency) return reject('other-currency')
      tx.put(accounts, { cents: row.cents + cents, currency })
      return { cents: row.cents + cents }
    },
  })
  return app('bank', { requests: [deposit], tables: [accounts] })
}

/** Upcasters with a mistake, by what they do. */
const steps = {
  throws: () => {
    throw new Error('no such thing')
  },
  'reads the clock': (older: object) => ({ ...older, at: Date.now() }),
  'changes its argument': (older: object) => Object.assign(older, { n: 2 }),
  'returns nothing': () => {},
  'is asynchronous': async () => {
    throw new Error('late')
  },
}

export function filling(what: keyof typeof steps) {
  const [box] = scopes('box')
  const boxes = box.table('boxes', { value: z.object({ n: z.int() }) })
  const fill = box.request('fill', {
    version: 2,
    upcast: { 1: steps[what] as never },
    input: z.object({ n: z.int() }),
    key: () => 'box',
    derive: (tx, { n }) => tx.put(boxes, { n }),
  })
  return app('house', { requests: [fill], tables: [boxes] })
}

const split = ({ name, ...older }: { readonly name: string }) => ({ ...older, name: name.split(' ') })

/** An app that sells seats. In version 1 a name was text, in version 2 it is a list of its parts. */
export function seller(version: number, splits = true) {
  const [order, seat] = scopes('order', 'seat')
  const name: z.ZodType<unknown> = version === 1 ? z.string() : z.array(z.string())
  const message = { version, upcast: version === 1 ? {} : { 1: splits ? split : (older: never) => older } }
  const input = z.object({ order: z.string(), name })
  const key = (input: { readonly order: string }) => input.order

  const orders = order.table('orders', { value: z.object({ name, state: z.string() }) })
  const heard = seat.table('heard', { value: z.object({ name }) })
  const seats = seat.capacity('seats', { mode: 'loose', limit: 1 })
  const desk = seat.unique('desk')
  const remind = order.event('remind', { ...message, data: input, key })
  const told = seat.event('told', { ...message, data: input, key: () => 'seat' })

  const book = order.request('book', {
    ...message,
    input,
    key,
    claims: () => [seats.claim('seat')],
    derive: (tx, { name }) => tx.put(orders, { name, state: 'booked' }),
    compensate: (tx, { name }) => tx.put(orders, { name, state: 'sorry' }),
  })
  const queue = order.request('queue', {
    ...message,
    input,
    key,
    claims: () => [desk.claim('seat')],
    derive: (tx, { name }) => tx.put(orders, { name, state: 'served' }),
  })
  const later = order.request('later', {
    ...message,
    input,
    key,
    derive: (tx, input) => tx.schedule(remind, input, { at: tx.now + 10 }),
  })
  const tell = order.request('tell', { ...message, input, key, derive: (tx, input) => tx.emit(told, input) })
  const shrink = seat.request('shrink', {
    input: z.object({}),
    key: () => 'seat',
    derive: (tx) => tx.setLimit(seats, 0),
  })
  return app('seller', {
    requests: [book, queue, later, tell, shrink],
    tables: [orders, heard],
    constraints: [seats, desk],
    reactions: [
      order.on(remind, (tx, { name }) => tx.put(orders, { name, state: 'reminded' })),
      seat.on(told, (tx, { name }) => tx.put(heard, { name })),
    ],
  })
}
