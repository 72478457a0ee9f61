import { app, type CapacityOptions, scopes } from 'hence'
import { z } from 'zod'

/** Crowds at one key: claims that all go at once, and timers that are all due at once. */
export function crowd(options: CapacityOptions) {
  const [show, guest] = scopes('show', 'guest')
  const seats = show.capacity('seats', options)
  const guests = guest.table('guests', {
    value: z.object({ state: z.enum(['booked', 'sorry', 'gone']), rang: z.int(), seen: z.array(z.int()) }),
  })
  const none = { state: 'booked', rang: 0, seen: [] as number[] } as const
  const name = z.object({ guest: z.string() })
  const gone = guest.event('gone', { data: z.object({ key: z.string() }), key: (data) => data.key })
  const bell = guest.event('bell', { data: name, key: (data) => data.guest })

  const book = guest.request('book', {
    input: z.object({ guest: z.string(), show: z.string(), priority: z.int().optional() }),
    key: (input) => input.guest,
    claims: (input) => [seats.claim(input.show, 1, { priority: input.priority ?? 0 })],
    derive: (tx) => tx.put(guests, { ...none, ...tx.get(guests) }),
    compensate: (tx) => tx.put(guests, { ...tx.get(guests)!, state: 'sorry' }),
  })
  const confirm = guest.request('confirm', {
    input: name,
    key: (input) => input.guest,
    derive: (tx) => ({ confirmed: tx.confirm(seats) }),
  })
  const cancel = guest.request('cancel', {
    input: name,
    key: (input) => input.guest,
    derive: (tx) => ({ released: tx.release(seats) }),
  })
  const limit = show.request('limit', {
    input: z.object({ show: z.string(), limit: z.int().optional(), by: z.int().optional() }),
    key: (input) => input.show,
    derive(tx, input) {
      if (input.limit !== undefined) tx.setLimit(seats, input.limit)
      if (input.by !== undefined) tx.adjustLimit(seats, input.by)
      return tx.usage(seats)
    },
  })
  const settle = show.request('settle', {
    input: z.object({ show: z.string() }),
    key: (input) => input.show,
    derive: (tx) => ({ units: tx.settle(seats, gone) }),
  })
  const wake = guest.request('wake', {
    input: z.object({ guest: z.string(), at: z.int(), bells: z.int() }),
    key: (input) => input.guest,
    derive(tx, { guest, at, bells }) {
      for (let n = 0; n < bells; n++) tx.schedule(bell, { guest }, { at, key: `${n}` })
    },
  })
  /** Records how many bells had rung before. */
  const look = guest.request('look', {
    input: name,
    key: (input) => input.guest,
    derive(tx) {
      const row = tx.get(guests) ?? none
      tx.put(guests, { ...row, seen: [...row.seen, row.rang] })
      return { rang: row.rang }
    },
  })
  return app('crowd', {
    requests: [book, confirm, cancel, limit, settle, wake, look],
    tables: [guests],
    constraints: [seats],
    reactions: [
      guest.on(gone, (tx) => tx.put(guests, { ...tx.get(guests)!, state: 'gone' })),
      guest.on(bell, (tx) => {
        const row = tx.get(guests) ?? none
        tx.put(guests, { ...row, rang: row.rang + 1 })
      }),
    ],
  })
}
