import { type App, app, effect, scopes } from 'hence'
import { z } from 'zod'

type Code = 'first' | 'upper' | 'without'

/**
 * Keeps orders. `upper` has keys and texts in capitals, and throws at the name 7; `without` no longer defines
 * the request.
 */
export function orders(code: Code, corrects = false) {
  const [order] = scopes('order')
  const table = order.table('orders', { value: z.object({ text: z.string() }) })
  const place = order.request('place', {
    input: z.object({ name: z.union([z.string(), z.int()]) }),
    key: ({ name }) => (code === 'upper' ? (name as string).toUpperCase() : String(name)),
    derive(tx, { name }) {
      tx.put(table, { text: String(name) })
      return code === 'upper' ? { text: (name as string).toUpperCase() } : { text: String(name) }
    },
  })
  const look = order.request('look', {
    input: z.object({ name: z.string() }),
    key: ({ name }) => name,
    derive: (tx) => tx.get(table) ?? null,
  })
  const noted = () =>
    order.correct((tx, correction) => {
      if (correction.kind === 'outcome') tx.put(table, { text: `corrected ${correction.after.status}` })
    })
  return app(`orders-${code}`, {
    requests: code === 'without' ? [look] : [place, look],
    tables: [table],
    reactions: corrects ? [noted()] : [],
  }) as App
}

/** Its table is of either scope, and it notes its corrections. */
export function yardOrHall(scope: 'yard' | 'hall') {
  const note = effect('note', { input: z.object({ text: z.string() }) })
  const [yard, hall] = scopes('yard', 'hall')
  const home = (scope === 'yard' ? yard : hall) as typeof yard
  const things = home.table('things', { value: z.object({ n: z.int() }) })
  const put = home.request('put', {
    input: z.object({ k: z.string() }),
    key: ({ k }) => k,
    derive(tx) {
      tx.put(things, { n: scope === 'yard' ? 1 : 2 })
    },
  })
  const corrects = [yard, hall].map((each) =>
    each.correct((tx, correction) => {
      if (correction.kind !== 'row') return
      const { before, after } = correction as { before?: unknown; after?: unknown }
      tx.effect(note, { text: `${tx.key} ${JSON.stringify(before)} ${JSON.stringify(after)}` })
    }),
  )
  return app(scope, {
    requests: [put],
    tables: [things],
    reactions: corrects,
    effects: [note],
  }) as unknown as App
}
