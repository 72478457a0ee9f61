import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'

const [night, booking] = scopes('night', 'booking')

// Every booking is accepted at once. If a night has more than its rooms, a person has a day to decide who
// gives way; then the latest booking does.
const rooms = night.capacity('rooms', { mode: 'loose', review: 'human' })
const bookings = booking.table('bookings', {
  value: z.object({
    night: z.string(),
    guest: z.string(),
    cents: z.int(),
    state: z.enum(['booked', 'cancelled', 'sorry']),
  }),
  indexes: { byNight: ['night'] },
})
const apology = effect('apology', { input: z.object({ to: z.string(), night: z.string() }) })

const priceOfRoom = 9_000

const open = night.request('open-night', {
  input: z.object({ night: z.iso.date(), rooms: z.int().min(0) }),
  key: (input) => input.night,
  derive: (tx, input) => tx.setLimit(rooms, input.rooms),
})

const book = booking.request('book', {
  input: z.object({ booking: z.string(), night: z.iso.date(), guest: z.string() }),
  key: (input) => input.booking,
  claims: (input) => [rooms.claim(input.night)],
  derive(tx, { night, guest }) {
    if (tx.get(bookings)) return reject('booking-exists')
    tx.put(bookings, { night, guest, cents: priceOfRoom, state: 'booked' })
    return { cents: priceOfRoom }
  },
  // Runs if the booking has to give way, however late that is.
  compensate(tx) {
    const row = tx.get(bookings)!
    tx.put(bookings, { ...row, state: 'sorry' })
    tx.effect(apology, { to: row.guest, night: row.night })
  },
})

const cancel = booking.request('cancel', {
  input: z.object({ booking: z.string() }),
  key: (input) => input.booking,
  derive(tx) {
    const row = tx.get(bookings)
    if (row?.state !== 'booked') return reject('not-booked')
    tx.put(bookings, { ...row, state: 'cancelled' })
    tx.release(rooms)
  },
})

export default app('bookings', {
  requests: [open, book, cancel],
  tables: [bookings],
  constraints: [rooms],
  effects: [apology],
})
