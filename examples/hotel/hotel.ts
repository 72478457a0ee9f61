/**
 * A hotel. A stay claims a room of its type for each of its nights, all or none. The hotel overbooks, since
 * some guests do not arrive. A guest beyond the limit is walked (moved to another hotel), for all nights at
 * once.
 */
import { app, effect, type Mode, type Overbook, reject, scopes, type Tx } from 'hence'
import { z } from 'zod'

const name = z.string().min(1).max(64)
const date = z.iso.date()
const dayMs = 86_400_000

/** The partition key of one room type in one night. */
const keyOf = (hotel: string, type: string, night: string) => `${hotel}/${type}/${night}`

function nightsOf({ from, nights }: { from: string; nights: number }): string[] {
  const first = Date.parse(from)
  return Array.from({ length: nights }, (_, i) => new Date(first + i * dayMs).toISOString().slice(0, 10))
}

/** @param mode `loose`: every stay is accepted; a guest beyond the limit is walked at once */
export function hotel(mode: Mode, overbook: Overbook = 1) {
  const [night, stay] = scopes('night', 'stay')

  const rooms = night.capacity('rooms', { mode, overbook })
  const nights = night.table('nights', {
    value: z.object({ rooms: z.int(), state: z.enum(['open', 'closed']) }),
    read: 'everybody',
  })
  const stays = stay.table('stays', {
    value: z.object({
      owner: z.string(),
      hotel: name,
      type: name,
      from: date,
      nights: z.int(),
      state: z.enum(['booked', 'arrived', 'cancelled', 'no-show', 'walking', 'walked', 'refunded']),
      /** The hotel that the guest was walked to. */
      instead: z.string().optional(),
    }),
    indexes: { byOwner: ['owner'] },
    read: { index: 'byOwner', equals: (who) => who.id },
  })
  const walk = effect('walk', {
    input: z.object({ guest: z.string(), hotel: name, type: name, from: date, nights: z.int() }),
    result: z.object({ hotel: name }),
  })
  const refund = effect('refund', { input: z.object({ stay: name, guest: z.string() }) })
  const notSeen = stay.event('not-seen', { data: z.object({ key: name }), key: (data) => data.key })

  const setRooms = night.request('set-rooms', {
    input: z.object({ hotel: name, type: name, night: date, rooms: z.int().min(0) }),
    key: (input) => keyOf(input.hotel, input.type, input.night),
    derive(tx, input) {
      if (tx.get(nights)?.state === 'closed') return reject('night-closed')
      tx.put(nights, { rooms: input.rooms, state: 'open' })
      tx.setLimit(rooms, input.rooms)
    },
  })

  /** Late in the evening: guests who have not arrived give up this night and all later ones. */
  const closeNight = night.request('close-night', {
    input: z.object({ hotel: name, type: name, night: date }),
    key: (input) => keyOf(input.hotel, input.type, input.night),
    derive(tx) {
      const row = tx.get(nights)
      if (row?.state !== 'open') return reject('night-not-open')
      tx.put(nights, { ...row, state: 'closed' })
      const noShows = tx.settle(rooms, notSeen)
      const { claimed, excess } = tx.usage(rooms)
      tx.setLimit(rooms, claimed - excess)
      return { noShows }
    },
  })

  const book = stay.request('book', {
    input: z.object({ stay: name, hotel: name, type: name, from: date, nights: z.int().min(1).max(60) }),
    key: (input) => input.stay,
    claims: (input) => nightsOf(input).map((night) => rooms.claim(keyOf(input.hotel, input.type, night))),
    derive(tx, { stay: _, ...input }) {
      if (tx.get(stays)) return reject('stay-exists')
      tx.put(stays, { ...input, owner: tx.principal, state: 'booked' })
    },
    // A guest who loses one night is walked for all of them; the other claims are released.
    compensate: walkGuest,
  })

  const arrive = stay.request('arrive', {
    input: z.object({ stay: name }),
    key: (input) => input.stay,
    derive(tx) {
      const row = tx.get(stays)
      if (row?.state !== 'booked') return reject('not-booked')
      tx.put(stays, { ...row, state: 'arrived' })
      tx.confirm(rooms)
    },
  })

  const cancel = stay.request('cancel', {
    input: z.object({ stay: name }),
    key: (input) => input.stay,
    derive(tx) {
      const row = tx.get(stays)
      if (row?.state !== 'booked' || row.owner !== tx.principal) return reject('not-booked')
      tx.put(stays, { ...row, state: 'cancelled' })
      tx.release(rooms)
    },
  })

  const onNotSeen = stay.on(notSeen, (tx) => {
    const row = tx.get(stays)!
    if (row.state !== 'booked' && row.state !== 'arrived') return
    tx.release(rooms)
    if (row.state === 'booked') return tx.put(stays, { ...row, state: 'no-show' })
    // The guest arrived while the night was being closed, and the room went to another guest.
    walkGuest(tx)
  })
  const onWalked = stay.on(walk.result, (tx, { result }) =>
    tx.put(stays, { ...tx.get(stays)!, state: 'walked', instead: result.hotel }),
  )
  const onNotWalked = stay.on(walk.dead, (tx) => {
    const row = tx.get(stays)!
    tx.put(stays, { ...row, state: 'refunded' })
    tx.effect(refund, { stay: tx.key, guest: row.owner })
  })

  function walkGuest(tx: Tx<'stay'>): void {
    const row = tx.get(stays)!
    const { owner, hotel, type, from, nights } = row
    tx.put(stays, { ...row, state: 'walking' })
    tx.effect(walk, { guest: owner, hotel, type, from, nights })
  }

  return app('hotel', {
    requests: [setRooms, closeNight, book, arrive, cancel],
    tables: [nights, stays],
    constraints: [rooms],
    reactions: [onNotSeen, onWalked, onNotWalked],
    effects: [walk, refund],
  })
}

const strict = hotel('strict')
export default strict
export type Hotel = typeof strict
