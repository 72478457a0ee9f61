import { app, type Schema, scopes } from 'hence'

const [key] = scopes('key')
const any = <T>(): Schema<T> => ({
  '~standard': { version: 1, vendor: 'hence', validate: (value) => ({ value: value as T }) },
})
const counts = key.table('counts', { value: any<{ readonly n: number }>() })
const count = key.request('count', {
  input: any<string>(),
  key: (input) => input,
  derive(tx) {
    const n = (tx.get(counts)?.n ?? 0) + 1
    tx.put(counts, { n })
    return n
  },
})

export default app('failover', { requests: [count], tables: [counts] })
