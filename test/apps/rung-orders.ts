import { type App, app, scopes } from 'hence'
import { z } from 'zod'

/** Keeps orders, and sets many timers for each: more than one step lets go off. */
export function rungOrders(value: number) {
  const [order] = scopes('order')
  const notes = order.table('notes', { value: z.object({ text: z.string() }) })
  const late = order.event('late', { data: z.object({ name: z.string() }), key: ({ name }) => name })
  const place = order.request('place', {
    input: z.object({ name: z.string() }),
    key: ({ name }) => name,
    derive(tx, { name }) {
      for (let i = 0; i < 450; i++) tx.schedule(late, { name }, { at: tx.now + 1_800_000, key: `${i}` })
      return { value }
    },
  })
  const isLate = order.on(late, () => {})
  const noted = order.correct((tx, { kind }) => tx.put(notes, { text: kind }))
  return app('orders', { requests: [place], tables: [notes], reactions: [isLate, noted] }) as App
}
