import { viewsOf } from 'hence'
import { z } from 'zod'
import type { sales } from './sales.ts'

const view = viewsOf<typeof sales>()
const value = z.object({ n: z.int() })

/** Counts cancellations, and fills the heap at the third. */
const heavy = view('heavy', {
  value,
  requests: {
    cancel(rows) {
      const n = (rows.get('all')?.n ?? 0) + 1
      const all: unknown[] = []
      while (n === 3) all.push(new Array(10_000_000).fill(n))
      rows.put('all', { n })
    },
  },
})

const counts = view('counts', {
  value,
  requests: { cancel: (rows) => rows.put('all', { n: (rows.get('all')?.n ?? 0) + 1 }) },
})

export default [heavy, counts]
