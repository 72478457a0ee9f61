import { app, type CapacityOptions, effect, reject, scopes } from 'hence'
import { z } from 'zod'

/**
 * Bookings hold seats of a show, change how many, or wait for some. A booking is held first, and paid for
 * later.
 * @param prefix of their keys
 */
export function tickets(options: CapacityOptions, prefix = '') {
  const [show, booking] = scopes('show', 'booking')
  const seats = show.capacity('seats', options)
  const number = show.unique('number', { mode: 'strict' })
  const sorry = effect('sorry', { input: z.object({ booking: z.string() }) })
  const delayed = effect('delayed', { input: z.object({ booking: z.string(), isVictim: z.boolean() }) })
  const seated = effect('seated', { input: z.object({ booking: z.string(), confirmBy: z.int().nullable() }) })
  const bookings = booking.table('bookings', {
    value: z.object({ seats: z.int(), state: z.enum(['held', 'paid', 'sorry', 'waiting']) }),
  })
  const input = z.object({
    booking: z.string(),
    seats: z.int(),
    show: z.string().default('s'),
    isRejected: z.boolean().default(false),
    releases: z.boolean().default(false),
    number: z.string().optional(),
    wait: z.boolean().default(false),
  })
  const key = (input: { booking: string }) => prefix + input.booking

  const hold = booking.request('hold', {
    input,
    key,
    claims: (input) => [
      seats.claim(input.show, input.seats, { wait: input.wait }),
      ...(input.number === undefined ? [] : [number.claim(input.number)]),
    ],
    derive(tx, input) {
      if (input.isRejected) return reject('not-held')
      tx.put(bookings, { seats: input.seats, state: 'held' })
      return { waits: tx.waits(seats) }
    },
    compensate(tx) {
      tx.put(bookings, { seats: 0, state: 'sorry' })
      tx.effect(sorry, { booking: tx.key })
    },
    queued(tx, input, { violation }) {
      tx.put(bookings, { seats: input.seats, state: 'waiting' })
      tx.effect(delayed, { booking: tx.key, isVictim: violation !== null })
    },
    served(tx, input, { confirmBy }) {
      tx.put(bookings, { seats: input.seats, state: 'held' })
      tx.effect(seated, { booking: tx.key, confirmBy })
    },
  })
  /** Pays, or changes the seats: another number in exchange for those that the booking holds. */
  const pay = booking.request('pay', {
    input,
    key,
    claims: (input) => [
      seats.claim(input.show, input.seats, { exchange: true }),
      ...(input.number === undefined ? [] : [number.claim(input.number)]),
    ],
    derive(tx, input) {
      if (input.isRejected) return reject('not-paid')
      if (input.releases) tx.release(seats)
      tx.put(bookings, { seats: input.seats, state: 'paid' })
    },
    compensate(tx) {
      tx.put(bookings, { seats: 0, state: 'sorry' })
      tx.effect(sorry, { booking: tx.key })
    },
  })
  const enter = booking.request('enter', {
    input: z.object({ booking: z.string() }),
    key,
    derive: (tx) => ({ confirmed: tx.confirm(seats) }),
  })
  const giveBack = booking.request('give-back', {
    input: z.object({ booking: z.string(), units: z.number() }),
    key,
    derive: (tx, { units }) => ({ count: tx.release(seats, undefined, units) }),
  })
  const setSeats = show.request('set-seats', {
    input: z.object({ seats: z.int(), show: z.string().default('s') }),
    key: (input) => input.show,
    derive(tx, input) {
      tx.setLimit(seats, input.seats)
      return tx.usage(seats)
    },
  })
  const begin = show.request('begin', {
    input: z.object({ show: z.string().default('s') }),
    key: (input) => input.show,
    derive: (tx) => ({ gone: tx.settle(seats) }),
  })
  return app('tickets', {
    requests: [hold, pay, enter, giveBack, setSeats, begin],
    tables: [bookings],
    constraints: [seats, number],
    effects: [sorry, delayed, seated],
  })
}
