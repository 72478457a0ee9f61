/** An app for crash tests: money is put into tills of limited size, and counted by town. */
import { app, reject, scopes } from 'hence'
import { z } from 'zod'

const [till, town] = scopes('till', 'town')

const state = z.object({ cents: z.int(), payments: z.int() })
const tills = till.table('tills', { value: state, indexes: { byCents: ['cents'] } })
const towns = town.table('towns', { value: state })

export const fullAt = 3_000

const paid = town.event('paid', {
  data: z.object({ town: z.string(), cents: z.int() }),
  key: (data) => data.town,
})
const pay = till.request('pay', {
  input: z.object({ till: z.string(), town: z.string(), cents: z.int().min(1) }),
  key: (input) => input.till,
  derive(tx, { town, cents }) {
    const row = tx.get(tills) ?? { cents: 0, payments: 0 }
    if (row.cents + cents > fullAt) return reject('till-full', { cents: row.cents })
    const next = { cents: row.cents + cents, payments: row.payments + 1 }
    tx.put(tills, next)
    tx.emit(paid, { town, cents })
    return { ...next, receipt: tx.uuid() }
  },
})
const empty = till.request('empty', {
  input: z.object({ till: z.string() }),
  key: (input) => input.till,
  derive(tx) {
    const row = tx.get(tills)
    if (!row || row.cents === 0) return reject('till-empty')
    tx.put(tills, { cents: 0, payments: row.payments })
    return { taken: row.cents }
  },
})
const count = town.on(paid, (tx, { cents }) => {
  const row = tx.get(towns) ?? { cents: 0, payments: 0 }
  tx.put(towns, { cents: row.cents + cents, payments: row.payments + 1 })
})

export default app('till', { requests: [pay, empty], tables: [tills, towns], reactions: [count] })
