import { app, scopes } from 'hence'
import { z } from 'zod'

/** Seats whose bookings give way without end. */
export function endlessApology() {
  const [show, booking] = scopes('show', 'booking')
  const seats = show.capacity('seats', { mode: 'loose', limit: 1, review: 'human' })
  const hold = booking.request('hold', {
    input: z.object({ booking: z.string() }),
    key: (input) => input.booking,
    claims: () => [seats.claim('s', 1)],
    derive: (tx) => tx.key,
    compensate() {
      for (;;);
    },
  })
  return app('endless', { requests: [hold], tables: [], constraints: [seats] })
}
