/**
 * An airline sells more seats than it has, since some passengers do not show up. If too many do, those with
 * the lowest fare are denied boarding, among equal fares the last to book. They are rebooked on another
 * flight, or paid.
 *
 * Checking in confirms a claim. At departure the flight settles: claims of no-shows are released, and the
 * margin ends.
 */
import { app, effect, type Mode, type Overbook, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const name = z.string().min(1).max(64)
/** The lower fare gives way first. */
const priorityOf = { saver: 0, flex: 1 } as const

/**
 * @param mode `loose`: every booking is accepted; one beyond the margin is rebooked at once
 * @param review `human`: first a person has a day to decide who gives way
 */
export function airline(mode: Mode, overbook: Overbook = { percent: 5 }, review: 'auto' | 'human' = 'auto') {
  const [flight, booking] = scopes('flight', 'booking')

  const seats = flight.capacity('seats', { mode, overbook, review, victims: 'lowest-priority' })
  const flights = flight.table('flights', {
    value: z.object({ seats: z.int(), state: z.enum(['open', 'departed']) }),
    read: 'everybody',
  })
  const bookings = booking.table('bookings', {
    value: z.object({
      owner: z.string(),
      flight: name,
      fare: z.enum(['saver', 'flex']),
      state: z.enum(['booked', 'checked-in', 'cancelled', 'no-show', 'denied', 'rebooked', 'paid']),
      /** The flight that it was rebooked to. */
      instead: z.string().optional(),
    }),
    indexes: { byOwner: ['owner'] },
    read: { index: 'byOwner', equals: (who) => who.id },
  })
  const rebook = effect('rebook', {
    input: z.object({ booking: name, flight: name }),
    result: z.object({ flight: name }),
  })
  const pay = effect('pay', { input: z.object({ booking: name, to: z.string(), euros: z.int() }) })
  const noShow = booking.event('no-show', {
    data: z.object({ key: name }),
    key: (data) => data.key,
  })

  const openFlight = flight.request('open-flight', {
    input: z.object({ flight: name, seats: z.int().min(0) }),
    key: (input) => input.flight,
    derive(tx, input) {
      if (tx.get(flights)) return reject('flight-exists')
      tx.put(flights, { seats: input.seats, state: 'open' })
      tx.setLimit(seats, input.seats)
    },
  })

  const changeAircraft = flight.request('change-aircraft', {
    input: z.object({ flight: name, seats: z.int().min(0) }),
    key: (input) => input.flight,
    derive(tx, input) {
      if (tx.get(flights)?.state !== 'open') return reject('flight-not-open')
      tx.put(flights, { seats: input.seats, state: 'open' })
      tx.setLimit(seats, input.seats)
    },
  })

  const depart = flight.request('depart', {
    input: z.object({ flight: name }),
    key: (input) => input.flight,
    derive(tx) {
      const row = tx.get(flights)
      if (row?.state !== 'open') return reject('flight-not-open')
      tx.put(flights, { ...row, state: 'departed' })
      const noShows = tx.settle(seats, noShow)
      const { claimed, excess } = tx.usage(seats)
      const boarded = claimed - excess
      // A plane that has left takes no more passengers.
      tx.setLimit(seats, boarded)
      return { boarded, noShows }
    },
  })

  const book = booking.request('book', {
    input: z.object({ booking: name, flight: name, fare: z.enum(['saver', 'flex']) }),
    key: (input) => input.booking,
    claims: (input) => [seats.claim(input.flight, 1, { priority: priorityOf[input.fare] })],
    derive(tx, { flight, fare }) {
      if (tx.get(bookings)) return reject('booking-exists')
      tx.put(bookings, { owner: tx.principal, flight, fare, state: 'booked' })
    },
    compensate: deny,
  })

  const checkIn = booking.request('check-in', {
    input: z.object({ booking: name }),
    key: (input) => input.booking,
    derive(tx) {
      const row = tx.get(bookings)
      if (row?.state !== 'booked' || row.owner !== tx.principal) return reject('not-booked')
      tx.put(bookings, { ...row, state: 'checked-in' })
      tx.confirm(seats)
    },
  })

  const cancel = booking.request('cancel', {
    input: z.object({ booking: name }),
    key: (input) => input.booking,
    derive(tx) {
      const row = tx.get(bookings)
      if (row?.state !== 'booked' || row.owner !== tx.principal) return reject('not-booked')
      tx.put(bookings, { ...row, state: 'cancelled' })
      tx.release(seats)
    },
  })

  const onNoShow = booking.on(noShow, (tx) => {
    const row = tx.get(bookings)!
    if (row.state === 'booked') tx.put(bookings, { ...row, state: 'no-show' })
    // The check-in reached the booking in time and the flight too late: that is the airline's fault.
    else if (row.state === 'checked-in') deny(tx)
  })
  const onRebooked = booking.on(rebook.result, (tx, { result }) =>
    tx.put(bookings, { ...tx.get(bookings)!, state: 'rebooked', instead: result.flight }),
  )
  const onNotRebooked = booking.on(rebook.dead, (tx) => {
    const row = tx.get(bookings)!
    tx.put(bookings, { ...row, state: 'paid' })
    tx.effect(pay, { booking: tx.key, to: row.owner, euros: 600 })
  })

  function deny(tx: Tx<'booking'>): void {
    const row = tx.get(bookings)!
    tx.put(bookings, { ...row, state: 'denied' })
    tx.effect(rebook, { booking: tx.key, flight: row.flight })
    // A passenger who had checked in is paid as well.
    if (row.state === 'checked-in') tx.effect(pay, { booking: tx.key, to: row.owner, euros: 250 })
  }

  return app('airline', {
    requests: [openFlight, changeAircraft, depart, book, checkIn, cancel],
    tables: [flights, bookings],
    constraints: [seats],
    reactions: [onNoShow, onRebooked, onNotRebooked],
    effects: [rebook, pay],
  })
}

const strict = airline('strict')
export default strict
export type Airline = typeof strict
