import { app, scopes } from 'hence'
import { z } from 'zod'

const [desk] = scopes('desk')
const seen = desk.table('seen', { key: ['string'], value: z.object({ at: z.int(), times: z.int() }) })
const rang = desk.event('rang', {
  data: z.object({ desk: z.string(), name: z.string() }),
  key: (data) => data.desk,
})
const set = desk.request('set', {
  input: z.object({ desk: z.string(), name: z.string(), inMs: z.int() }),
  key: (input) => input.desk,
  derive(tx, { desk, name, inMs }) {
    tx.schedule(rang, { desk, name }, { at: tx.now + inMs, key: name })
    return tx.now
  },
})
const ring = desk.on(rang, (tx, { name }) => {
  const { times } = tx.get(seen, name) ?? { times: 0 }
  tx.put(seen, name, { at: tx.now, times: times + 1 })
})
export const alarms = app('alarms', { requests: [set], tables: [seen], reactions: [ring] })
