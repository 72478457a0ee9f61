import { type App, app, scopes } from 'hence'
import { z } from 'zod'

/** An app that sets timers and, with `pokes`, has one place poke another. */
export function chimes(afterMs: number, pokes: boolean, [clockKey, , toldKey]: readonly string[]) {
  const [place] = scopes('place')
  const values = place.table('values', { value: z.object({ value: z.int() }) })
  const data = z.object({ at: z.string() })
  const key = ({ at }: { at: string }) => at
  const late = place.event('late', { data, key })
  const poke = place.event('poke', { data, key })
  const told = place.event('told', { data, key })
  const input = data
  const set = place.request('set', {
    input,
    key,
    derive: (tx, { at }) => tx.schedule(late, { at }, { at: tx.now + afterMs }) ?? null,
  })
  const ping = place.request('ping', {
    input,
    key,
    derive(tx) {
      if (pokes) tx.emit(poke, { at: clockKey! })
      return null
    },
  })
  const mark = place.request('mark', {
    input,
    key,
    derive(tx) {
      tx.put(values, { value: (tx.get(values)?.value ?? 0) + 1 })
      return null
    },
  })
  const isLate = place.on(late, (tx) => tx.emit(told, { at: toldKey! }))
  const isPoked = place.on(poke, (tx) => tx.put(values, { value: (tx.get(values)?.value ?? 0) * 5 + 1 }))
  const isTold = place.on(told, (tx) => tx.put(values, { value: (tx.get(values)?.value ?? 0) * 3 + 1 }))
  return app('chimes', {
    requests: [set, ping, mark],
    tables: [values],
    reactions: [isLate, isPoked, isTold],
  }) as App
}

/** An app that counts at one key. */
export function sums(key: string) {
  const [place] = scopes('place')
  const values = place.table('sums', { value: z.object({ sum: z.int() }) })
  const add = place.request('add', {
    input: z.object({ at: z.string() }),
    key: () => key,
    derive(tx) {
      tx.put(values, { sum: (tx.get(values)?.sum ?? 0) + 1 })
      return null
    },
  })
  return app('sums', { requests: [add], tables: [values] })
}
