import { app, scopes } from 'hence'
import { z } from 'zod'

/** Tours with a seat at each of many shows, all of which have one limit. */
export function tours(limit: number) {
  const [show, tour] = scopes('show', 'tour')
  const seats = show.capacity('seats', { mode: 'loose', limit })
  const booked = tour.table('booked', { value: z.object({ denied: z.array(z.string()) }) })
  const book = tour.request('book', {
    input: z.object({ tour: z.string(), shows: z.array(z.string()) }),
    key: (input) => input.tour,
    claims: ({ shows }) => shows.map((name) => seats.claim(name)),
    derive: (tx) => tx.put(booked, { denied: [] }),
    compensate(tx, _, violation) {
      tx.put(booked, { denied: [...tx.get(booked)!.denied, violation.key] })
    },
  })
  return app('tours', { requests: [book], tables: [booked], constraints: [seats] })
}
