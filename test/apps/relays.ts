/**
 * Places that pass messages on, as the messages say. Two versions of the code send different ones, in
 * different orders, and derive some requests under another key. Each sender numbers what it sends to each
 * place.
 */
import { app, scopes, type Tx } from 'hence'
import { z } from 'zod'

export interface Sending {
  readonly to: string
  readonly text: string
  /** By version: its rank among those sent together; null if that version does not send it. */
  readonly ranks: readonly [number | null, number | null]
  /** The receiver sends these on. */
  readonly next: readonly Sending[]
}

export function relays(version: 0 | 1) {
  const [place] = scopes('place')
  const sending: z.ZodType<Sending> = z.lazy(() =>
    z.object({
      to: z.string(),
      text: z.string(),
      ranks: z.tuple([z.int().nullable(), z.int().nullable()]),
      next: z.array(sending),
    }),
  )
  const counters = place.table('counters', { key: ['string'], value: z.object({ sent: z.int() }) })
  const arrivals = place.table('arrivals', {
    key: ['string'],
    value: z.object({ texts: z.array(z.string()) }),
  })
  /** Everything that came, from whatever place, in order. */
  const diary = place.table('diary', { value: z.object({ texts: z.array(z.string()) }) })
  const arrived = place.event('arrived', {
    data: z.object({
      to: z.string(),
      from: z.string(),
      n: z.int(),
      text: z.string(),
      next: z.array(sending),
    }),
    key: (data) => data.to,
  })

  function sendAll(tx: Tx<'place'>, all: readonly Sending[]): void {
    const mine = all.filter(({ ranks }) => ranks[version] !== null)
    mine.sort((a, b) => a.ranks[version]! - b.ranks[version]!)
    for (const { to, text, next } of mine) {
      const n = tx.get(counters, to)?.sent ?? 0
      tx.put(counters, to, { sent: n + 1 })
      // Under a key of its own the event has the same id in both versions.
      tx.emit(arrived, { to, from: tx.key, n, text, next: [...next] }, { key: text })
    }
  }

  const send = place.request('send', {
    input: z.object({ froms: z.tuple([z.string(), z.string()]), all: z.array(sending) }),
    key: (input) => input.froms[version],
    derive: (tx, { all }) => sendAll(tx, all),
  })
  const onArrived = place.on(arrived, (tx, { from, n, text, next }) => {
    const { texts } = tx.get(arrivals, from) ?? { texts: [] }
    tx.put(arrivals, from, { texts: [...texts, `${n} ${text}`] })
    tx.put(diary, { texts: [...(tx.get(diary)?.texts ?? []), text] })
    sendAll(tx, next)
  })
  return app(`relays-${version}`, {
    requests: [send],
    tables: [counters, arrivals, diary],
    reactions: [onArrived],
  })
}
