import { viewsOf } from 'hence'
import { z } from 'zod'
import type { sales } from './sales.ts'

const view = viewsOf<typeof sales>()

/** A column of each kind, and names that SQL takes for the same. */
const kinds = view('allKinds', {
  value: z.object({
    key: z.string(),
    cents: z.int(),
    CENTS: z.number(),
    isBig: z.boolean(),
    note: z.string().optional(),
    gone: z.int().nullable(),
    tags: z.array(z.string()),
    size: z.object({ width: z.number() }),
    mixed: z.union([z.string(), z.int()]),
  }),
  key: ['number'],
  indexes: { byCents: ['cents'] },
  sql: true,
  tables: {
    orders(rows, { after }) {
      if (!after) return
      rows.put(after.sku, after.cents, {
        key: `it's ${after.sku}`,
        cents: after.cents,
        CENTS: after.cents / 2,
        isBig: after.cents > 1_000,
        ...(after.cents > 1_000 && { note: 'big "one"' }),
        gone: null,
        tags: ['a', 'b'],
        size: { width: 2 },
        mixed: after.cents > 1_000 ? after.cents : after.sku,
      })
    },
  },
})

/** Not an object: one column. */
const list = view('list', {
  value: z.array(z.string()),
  sql: 'lists',
  tables: { orders: (rows, { key }) => rows.put(key[0], [...(rows.get(key[0]) ?? []), 'changed']) },
})

/** Its rows do not fit its schema, which the sandbox does not check, and SQL does. */
const wrong = view('wrong', {
  value: z.object({ n: z.int() }),
  sql: true,
  tables: { orders: (rows, { key }) => rows.put(key[0], { n: 'text' as never }) },
})

export default [kinds, list, wrong]
