import { type App, app, effect, scopes } from 'hence'
import { z } from 'zod'

const [shelf] = scopes('shelf')

interface Parts {
  /** The indexes of its table; undefined for no table. */
  readonly indexes?: Readonly<Record<string, readonly string[]>> | undefined
  readonly rings?: boolean
  readonly books?: boolean
  readonly sends?: boolean
}

/** An app that keeps things on shelves; its versions may ring after a while, book places, and send cards. */
export function store(name: string, { indexes, rings = false, books = false, sends = false }: Parts): App {
  // The sandbox refuses what is defined and not listed.
  const card = sends ? effect('card', { input: z.object({ at: z.string() }) }) : undefined
  const things =
    indexes &&
    shelf.table('things', { value: z.object({ name: z.unknown(), count: z.int() }), indexes } as never)
  const counts = shelf.table('counts', { value: z.object({ count: z.int() }) })
  const rung = rings
    ? shelf.event('rung', { data: z.object({ at: z.string() }), key: ({ at }) => at })
    : undefined
  const put = shelf.request('put', {
    input: z.object({
      at: z.string(),
      name: z.unknown(),
      ring: z.boolean().optional(),
      send: z.boolean().optional(),
    }),
    key: ({ at }) => at,
    derive(tx, { at, name, ring = false, send = false }) {
      if (things) tx.put(things, { name, count: 1 } as never)
      tx.put(counts, { count: (tx.get(counts)?.count ?? 0) + 1 })
      if (send) tx.effect(card!, { at })
      if (ring) tx.schedule(rung!, { at }, { at: tx.now + 1_000 })
      return null
    },
  })
  const places = shelf.capacity('places', { limit: 5, mode: 'strict' })
  const book = shelf.request('book', {
    input: z.object({ at: z.string() }),
    key: ({ at }) => at,
    claims: ({ at }) => [places.claim(at, 1)],
    derive: () => null,
  })
  return app(name, {
    requests: books ? [put, book] : [put],
    constraints: [places],
    effects: card ? [card] : [],
    tables: things ? [things, counts] : [counts],
    reactions: rung ? [shelf.on(rung, (tx) => tx.put(counts, { count: 100 }))] : [],
  } as never) as App
}
