/** An app for crash tests: money is put into tills of limited size, and counted by town. */
import { app, reject, type Schema, scopes } from 'hence'

/** A library of schemas would be most of the bundle, and of the time of the many starts of these tests. */
function object<T extends object>(
  fields: { [K in keyof T]: (value: unknown) => value is T[K] },
): Schema<T, T> {
  const names = Object.keys(fields) as (keyof T)[]
  const validate = (value: unknown) => {
    const given = Object(value) as T
    const wrong = names.find((name) => !fields[name](given[name]))
    if (wrong !== undefined) return { issues: [{ message: 'not right', path: [wrong] }] }
    return { value: Object.fromEntries(names.map((name) => [name, given[name]])) as T }
  }
  return { '~standard': { version: 1, vendor: 'till', validate } }
}
const text = (value: unknown): value is string => typeof value === 'string'
const whole = (value: unknown): value is number => Number.isSafeInteger(value)
const positive = (value: unknown): value is number => whole(value) && value > 0

const [till, town] = scopes('till', 'town')

const state = object({ cents: whole, payments: whole })
const tills = till.table('tills', { value: state, indexes: { byCents: ['cents'] } })
const towns = town.table('towns', { value: state })

export const fullAt = 3_000

const paid = town.event('paid', {
  data: object({ town: text, cents: whole }),
  key: (data) => data.town,
})
const pay = till.request('pay', {
  input: object({ till: text, town: text, cents: positive }),
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
  input: object({ till: text }),
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
