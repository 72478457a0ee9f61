import { app, scopes } from 'hence'
import { z } from 'zod'

const [key] = scopes('key')
const counts = key.table('counts', { value: z.object({ n: z.int() }) })
const count = key.request('count', {
  input: z.object({ key: z.string() }),
  key: (input) => input.key,
  derive(tx) {
    const n = (tx.get(counts)?.n ?? 0) + 1
    tx.put(counts, { n })
    return { n }
  },
})

export default app('counter', { requests: [count], tables: [counts] })
