import { app, effect, scopes } from 'hence'
import { z } from 'zod'

/** Notes; newer code keeps a count of each key in a table of its own, and writes to whom a row was corrected. */
export function grown(counts: boolean) {
  const [key] = scopes('key')
  const value = z.object({ n: z.int() })
  const notes = key.table('notes', { value })
  const letter = effect('letter', { input: z.object({ table: z.string(), key: z.string() }) })
  const put = (table: typeof notes | undefined) =>
    key.request('put', {
      input: z.object({ key: z.string(), n: z.int() }),
      key: (input) => input.key,
      derive(tx, { n }) {
        tx.put(notes, { n: counts ? 2 * n : n })
        if (table) tx.put(table, { n: (tx.get(table)?.n ?? 0) + 1 })
      },
    })
  const correct = key.correct((tx, correction) => {
    if (correction.kind === 'row') tx.effect(letter, { table: correction.table, key: tx.key })
  })
  const parts = { reactions: [correct], effects: [letter] }
  if (!counts) return app('grown', { requests: [put(undefined)], tables: [notes], ...parts })
  const counted = key.table('counted', { value })
  return app('grown', { requests: [put(counted as never)], tables: [notes, counted], ...parts })
}
