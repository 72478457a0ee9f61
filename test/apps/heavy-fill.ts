import { app, scopes } from 'hence'
import { z } from 'zod'

const [box] = scopes('box')
const count = z.object({ n: z.int() })

const counts = () => box.table('counts', { value: count })
const input = z.object({ box: z.string() })

/** Counts what is added. */
export function bare() {
  const table = counts()
  const add = box.request('add', {
    input,
    key: (input) => input.box,
    derive: (tx) => tx.put(table, { n: (tx.get(table)?.n ?? 0) + 1 }),
  })
  return app('boxes', { requests: [add], tables: [table] })
}

/**
 * Counts in another table as well, which is filled from the past.
 * @param isHeavy whether the fill takes the whole heap at the third request
 */
export function filled(isHeavy: boolean) {
  const tables = [counts(), box.table('others', { value: count })] as const
  const add = box.request('add', {
    input,
    key: (input) => input.box,
    derive(tx) {
      for (const table of tables) tx.put(table, { n: (tx.get(table)?.n ?? 0) + 1 })
    },
  })
  const past = box.fill(tables[1], add, (rows) => {
    const n = (rows.get()?.n ?? 0) + 1
    const all: unknown[] = []
    while (isHeavy && n === 3) all.push(new Array(10_000_000).fill(n))
    rows.put({ n })
  })
  return app('boxes', { requests: [add], tables, fills: [past] })
}
