import { app, effect, scopes } from 'hence'
import { z } from 'zod'

/** A hall whose bookings claim seats at its own key. The mended code also accepts who was refused by mistake. */
export function apologies(isMended: boolean) {
  const [hall] = scopes('hall')
  const sorry = effect('sorry', { input: z.object({ to: z.string(), why: z.string() }) })
  const seats = hall.capacity('seats', { mode: 'loose', limit: 1_000, victims: 'oldest', review: 'auto' })
  const input = z.object({
    hall: z.string(),
    by: z.string(),
    units: z.int(),
    limit: z.int().optional(),
    fails: z.boolean().optional(),
  })
  const key = ({ hall }: { hall: string }) => hall
  const book = hall.request('book', {
    input,
    key,
    claims: (i) => [seats.claim(i.hall, i.units)],
    derive(tx, { fails, limit }) {
      if (fails && !isMended) throw new Error('by mistake')
      if (limit !== undefined) tx.setLimit(seats, limit)
      return null
    },
    compensate(tx, { by }) {
      tx.effect(sorry, { to: by, why: 'lost' })
    },
  })
  const noShow = hall.event('no-show', {
    data: z.object({
      constraint: z.string(),
      judged: z.string(),
      requestId: z.string(),
      principal: z.string(),
      key: z.string(),
      units: z.int(),
    }),
    key: ({ judged }) => judged,
  })
  const begin = hall.request('begin', {
    input: z.object({ hall: z.string() }),
    key,
    derive: (tx) => ({ released: tx.settle(seats, noShow) }),
  })
  const missed = hall.on(noShow, (tx, { requestId }) => {
    tx.effect(sorry, { to: requestId, why: 'missed' })
  })
  return app('apologies', {
    requests: [book, begin],
    tables: [],
    constraints: [seats],
    reactions: [missed],
    effects: [sorry],
  })
}
