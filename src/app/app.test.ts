import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import {
  app,
  HenceError,
  type RequestInput,
  type RequestName,
  type RequestReason,
  type RequestValue,
  reject,
  scopes,
  type TableKey,
  type TableValue,
} from './index.ts'

// This file holds the type tests too: `npm run types` compiles it, and an @ts-expect-error without an
// error under it fails there.

/** Compiles only when both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Same<A, B>): void => {}

const [order, product] = scopes('order', 'product')
const orders = order.table('orders', {
  value: z.object({ owner: z.string(), state: z.enum(['open', 'shipped']), tags: z.array(z.string()) }),
  indexes: { byOwner: ['owner'], byState: ['state', 'owner'] },
})
const lines = order.table('lines', { value: z.object({ sku: z.string() }), key: ['number'] })
const stock = product.table('stock', { value: z.object({ units: z.int() }) })
const sold = product.event('sold', {
  data: z.object({ sku: z.string(), units: z.int() }),
  key: (sale) => sale.sku,
})
const place = order.request('place', {
  input: z.object({ order: z.string(), units: z.coerce.number<string>() }),
  key: (input) => input.order,
  derive(tx, input) {
    same<typeof input.units, number>(true)
    const before = tx.get(orders)
    if (before) return reject('order-exists', { state: before.state })
    tx.put(orders, { owner: tx.principal, state: 'open', tags: [] })
    tx.put(lines, 1, { sku: 'mug' })
    tx.emit(sold, { sku: 'mug', units: input.units })
    if (input.units > 9) return reject('too-many')
    return { state: 'open' as const }
  },
})
const ship = order.request('ship', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive(tx) {
    const row = tx.get(orders)
    if (!row) return reject('unknown-order')
    tx.put(orders, { ...row, state: 'shipped' })
    return undefined
  },
})
const onSold = product.on(sold, (tx, sale) => {
  same<typeof sale.units, number>(true)
  tx.put(stock, { units: (tx.get(stock)?.units ?? 0) - sale.units })
})
const shop = app('shop', { requests: [place, ship], tables: [orders, lines, stock], reactions: [onSold] })
type Shop = typeof shop

// What a client of the app can know of it, from its type alone.
same<RequestName<Shop>, 'place' | 'ship'>(true)
same<RequestInput<Shop, 'place'>, { order: string; units: string }>(true)
same<RequestValue<Shop, 'place'>, { state: 'open' }>(true)
same<RequestValue<Shop, 'ship'>, null>(true)
same<RequestReason<Shop, 'place'>, 'order-exists' | 'too-many'>(true)
same<RequestReason<Shop, 'ship'>, 'unknown-order'>(true)
same<TableKey<Shop, 'orders'>, readonly [key: string]>(true)
same<TableKey<Shop, 'lines'>, readonly [key: string, number]>(true)
same<TableValue<Shop, 'stock'>, { units: number }>(true)

// What a derivation must not do is an error when it is written.
order.request('hide', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  // @ts-expect-error: every object fits {}, so the reason below would not be known outside.
  derive(tx) {
    if (tx.get(orders)) return reject('lost')
    return {}
  },
})
order.request('tell', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive: (tx) => (tx.get(orders) ? { a: 1 } : tx.now > 0 ? { b: 1 } : reject('known')),
})
order.request('cheat', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  derive(tx, input) {
    // @ts-expect-error a table of another scope
    tx.get(stock)
    // @ts-expect-error a key part too many
    tx.get(orders, 1)
    // @ts-expect-error a key part of the wrong kind
    tx.get(lines, 'one')
    // @ts-expect-error a key part too few
    tx.delete(lines)
    // @ts-expect-error a value of another table
    tx.put(orders, { sku: 'mug' })
    // @ts-expect-error an index that the table does not have
    tx.scan(lines, { index: 'byOwner' })
    tx.scan(orders, { index: 'byOwner', prefix: ['ann'] })
    // @ts-expect-error data of another event
    tx.emit(sold, { sku: 1, units: 1 })
    const row = tx.get(orders)!
    // @ts-expect-error rows are frozen
    row.state = 'shipped'
    // @ts-expect-error all the way down
    row.tags.push('new')
    // @ts-expect-error the input is frozen
    input.order = 'other'
  },
})
// @ts-expect-error an event has a reaction in its own scope
order.on(sold, () => {})
order.table('bad', {
  value: z.object({ tags: z.array(z.string()) }),
  // @ts-expect-error a list cannot be indexed
  indexes: { byTags: ['tags'] },
})
order.request('bad', {
  input: z.object({ order: z.string() }),
  // @ts-expect-error a partition key is text
  key: () => 1,
  derive() {},
})

test('an app finds its definitions by name', () => {
  assert.deepEqual([...shop.requests.keys()], ['place', 'ship'])
  assert.deepEqual([...shop.tables.keys()], ['orders', 'lines', 'stock'])
  assert.equal(shop.reactions.get('sold'), onSold)
  assert.equal(shop.events.get('sold'), sold)
})

for (const [what, make] of [
  ['two tables of one name', () => app('x', { requests: [], tables: [orders, orders] })],
  ['two requests of one name', () => app('x', { requests: [place, place], tables: [] })],
  ['two reactions to one event', () => app('x', { requests: [], tables: [], reactions: [onSold, onSold] })],
  ['a bad app name', () => app('a shop', { requests: [], tables: [] })],
  [
    'a bad index name',
    () =>
      app('x', {
        requests: [],
        tables: [order.table('t', { value: z.object({ a: z.string() }), indexes: { 'by a': ['a'] } })],
      }),
  ],
] as const) {
  test(`an app with ${what} is refused`, () => {
    assert.throws(make, (error) => error instanceof HenceError && error.code === 'app-invalid')
  })
}
