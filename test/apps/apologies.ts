import { app, effect, scopes } from 'hence'
import { z } from 'zod'

/** A hall whose bookings claim seats at its own key. The mended code also accepts who was refused by mistake. */
export function apologies(isMended: boolean) {
  const [hall] = scopes('hall')
  const key = ({ hall }: { hall: string }) => hall
  const served = effect('served', { input: z.object({ to: z.string() }) })
  const sorry = effect('sorry', { input: z.object({ to: z.string(), why: z.string() }) })
  const seats = hall.capacity('seats', { mode: 'loose', limit: 1_000, victims: 'oldest', review: 'auto' })
  const places = hall.capacity('places', {
    mode: 'loose',
    limit: 0,
    waitingList: { confirmMs: 1_000 },
  })
  const wait = hall.request('wait', {
    input: z.object({ hall: z.string(), by: z.string(), fails: z.boolean().optional() }),
    key,
    claims: (i) => [places.claim(i.hall, 1, { wait: true })],
    derive(_, { fails }) {
      if (fails && !isMended) throw new Error('by mistake')
      return null
    },
    compensate(tx, { by }) {
      tx.effect(sorry, { to: by, why: 'not confirmed' })
    },
    served(tx, { by }) {
      tx.effect(served, { to: by })
    },
  })
  const open = hall.request('open', {
    input: z.object({ hall: z.string() }),
    key,
    derive(tx) {
      tx.setLimit(places, 1_000)
      return null
    },
  })
  const input = z.object({
    hall: z.string(),
    by: z.string(),
    units: z.int(),
    limit: z.int().optional(),
    fails: z.boolean().optional(),
  })
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
    requests: [book, begin, wait, open],
    tables: [],
    constraints: [seats, places],
    reactions: [missed],
    effects: [sorry, served],
  })
}
