/**
 * The seats of flights: a passenger holds a seat for 15 minutes, and books it or releases it.
 *
 * Everything about a flight is under the flight's key, so its requests are decided one at a time. That alone
 * gives each seat to one passenger; a constraint is needed only where two keys have to agree. To show the
 * seats, read the table `seats` with the flight as prefix.
 */
import { app, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [flight] = scopes('flight')

export const holdMs = 15 * 60_000

const name = z.string().min(1).max(64)
const place = { row: z.int().min(1).max(99), letter: z.string().regex(/^[A-K]$/) }

/** The seat map of a flight, readable by everybody: row and letter → state. */
const seats = flight.table('seats', {
  key: ['number', 'string'],
  value: z.object({
    state: z.enum(['free', 'held', 'booked']),
    /** When the hold ends: log time, in milliseconds since 1970. */
    until: z.int().optional(),
  }),
  read: 'everybody',
})

/** The passenger of a seat, readable only by that passenger. */
const passengers = flight.table('passengers', {
  key: ['number', 'string'],
  value: z.object({ passenger: z.string() }),
  indexes: { byPassenger: ['passenger'] },
  read: { index: 'byPassenger', equals: (who) => who.id },
})

const holdEnded = flight.event('hold-ended', {
  data: z.object({ flight: name, ...place }),
  key: (data) => data.flight,
})

const openFlight = flight.request('open-flight', {
  input: z.object({ flight: name, rows: z.int().min(1).max(99), letters: z.string().regex(/^[A-K]+$/) }),
  key: (input) => input.flight,
  derive(tx, { rows, letters }) {
    if (tx.scan(seats, { limit: 1 }).length > 0) return reject('flight-exists')
    for (let row = 1; row <= rows; row++) {
      for (const letter of letters) tx.put(seats, row, letter, { state: 'free' })
    }
  },
})

const holdSeat = flight.request('hold-seat', {
  input: z.object({ flight: name, ...place }),
  key: (input) => input.flight,
  derive(tx, input) {
    const { row, letter } = input
    const seat = tx.get(seats, row, letter)
    if (!seat) return reject('no-such-seat')
    if (seat.state !== 'free') return reject('seat-taken')
    const until = tx.now + holdMs
    tx.put(seats, row, letter, { state: 'held', until })
    tx.put(passengers, row, letter, { passenger: tx.principal })
    tx.schedule(holdEnded, input, { at: until, key: `${row}${letter}` })
    return { until }
  },
})

const bookSeat = flight.request('book-seat', {
  input: z.object({ flight: name, ...place }),
  key: (input) => input.flight,
  derive(tx, { row, letter }) {
    if (!isOwn(tx, row, letter)) return reject('seat-not-yours')
    if (tx.get(seats, row, letter)?.state === 'booked') return reject('already-booked')
    tx.put(seats, row, letter, { state: 'booked' })
    tx.cancel(holdEnded, { key: `${row}${letter}` })
  },
})

const releaseSeat = flight.request('release-seat', {
  input: z.object({ flight: name, ...place }),
  key: (input) => input.flight,
  derive(tx, { row, letter }) {
    if (!isOwn(tx, row, letter)) return reject('seat-not-yours')
    free(tx, row, letter)
    tx.cancel(holdEnded, { key: `${row}${letter}` })
  },
})

/** A booking or a release cancels the timer, so when it fires the hold is still there. */
const onHoldEnded = flight.on(holdEnded, (tx, { row, letter }) => free(tx, row, letter))

function isOwn(tx: FlightTx, row: number, letter: string): boolean {
  return tx.get(passengers, row, letter)?.passenger === tx.principal
}

function free(tx: FlightTx, row: number, letter: string): void {
  tx.put(seats, row, letter, { state: 'free' })
  tx.delete(passengers, row, letter)
}

type FlightTx = Tx<typeof flight.name>

const seating = app('seats', {
  requests: [openFlight, holdSeat, bookSeat, releaseSeat],
  tables: [seats, passengers],
  reactions: [onHoldEnded],
})
export default seating
export type Seats = typeof seating
