/**
 * The seats of flights: somebody holds a seat for 15 minutes, and books it or lets it go.
 *
 * All of a flight stands under the flight's key, so requests about it are decided one after the other. That alone
 * keeps a seat for one passenger; a constraint is needed where two keys have to agree. And whoever shows the seats
 * reads one table: `seats`, by the prefix of the flight.
 */
import { app, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const [flight] = scopes('flight')

export const holdMs = 15 * 60_000

const name = z.string().min(1).max(64)
const place = { row: z.int().min(1).max(99), letter: z.string().regex(/^[A-K]$/) }

/** The map of a flight, which everybody may see: row and letter → state. */
const seats = flight.table('seats', {
  key: ['number', 'string'],
  value: z.object({
    state: z.enum(['free', 'held', 'booked']),
    /** When the hold ends: log time, in milliseconds since 1970. */
    until: z.int().optional(),
  }),
  read: 'everybody',
})

/** Who has a seat, which only they may see. */
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

/** The timer is cancelled when the seat is booked or released; so whoever held it still does. */
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
