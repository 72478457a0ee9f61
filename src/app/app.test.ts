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

// This file also holds type tests: `npm run types` compiles it, and fails for an @ts-expect-error without an
// error.

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

// A client derives these types from the type of the app alone.
same<RequestName<Shop>, 'place' | 'ship'>(true)
same<RequestInput<Shop, 'place'>, { order: string; units: string }>(true)
same<RequestValue<Shop, 'place'>, { state: 'open' }>(true)
same<RequestValue<Shop, 'ship'>, null>(true)
same<RequestReason<Shop, 'place'>, 'order-exists' | 'too-many'>(true)
same<RequestReason<Shop, 'ship'>, 'unknown-order'>(true)
same<TableKey<Shop, 'orders'>, readonly [key: string]>(true)
same<TableKey<Shop, 'lines'>, readonly [key: string, number]>(true)
same<TableValue<Shop, 'stock'>, { units: number }>(true)

// Mistakes in a derivation are type errors.
order.request('hide', {
  input: z.object({ order: z.string() }),
  key: (input) => input.order,
  // @ts-expect-error: every object fits {}, which would hide the reason below.
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
    // @ts-expect-error one key part too many
    tx.get(orders, 1)
    // @ts-expect-error a key part of the wrong kind
    tx.get(lines, 'one')
    // @ts-expect-error one key part too few
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
  // @ts-expect-error a partition key is a string
  key: () => 1,
  derive() {},
})

// The versions of a message: every upcaster exists, and the last one returns the current schema's type.
const renamed = order.request('rename', {
  version: 3,
  upcast: {
    1: ({ name }: { name: string }) => ({ names: name.split(' ') }),
    2: (older) => ({ order: 'none', names: older.names as readonly string[] }),
  },
  input: z.object({ order: z.string(), names: z.array(z.string()) }),
  key: (input) => input.order,
  derive(tx, input) {
    same<typeof input.names, readonly string[]>(true)
    return tx.get(orders) ? reject('order-exists') : { count: input.names.length }
  },
})
const renaming = app('shop', { requests: [renamed], tables: [] })
same<RequestValue<typeof renaming, 'rename'>, { count: number }>(true)
same<RequestReason<typeof renaming, 'rename'>, 'order-exists'>(true)
const names = { data: z.object({ names: z.array(z.string()) }), key: () => 'all' }
product.event('renamed', { version: 2, upcast: { 1: ({ name }) => ({ names: [name as string] }) }, ...names })
product.event('renamed', {
  version: 2,
  // @ts-expect-error the last upcaster returns another type than the schema
  upcast: { 1: () => ({ names: 'Ann' }) },
  ...names,
})
// @ts-expect-error an upcaster is missing
product.event('renamed', { version: 3, upcast: { 1: () => 1 }, ...names })
// @ts-expect-error a version without upcasters
product.event('renamed', { version: 2, ...names })
// @ts-expect-error upcasters without a version
product.event('renamed', { upcast: { 1: () => ({ names: [] }) }, ...names })

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
  ['a request without a step', () => app('x', { requests: [versioned(3, { 2: same })], tables: [] })],
  ['a step that is no function', () => app('x', { requests: [versioned(2, { 1: 'x' })], tables: [] })],
  ['a step that leads nowhere', () => app('x', { requests: [versioned(1, { 1: same })], tables: [] })],
  ['a step from no version', () => app('x', { requests: [versioned(2, { 1: same, 0: same })], tables: [] })],
  ['a version 0', () => app('x', { requests: [versioned(0, {})], tables: [] })],
  ['half a version', () => app('x', { requests: [versioned(1.5, { 1: same })], tables: [] })],
  [
    'a version that no record can hold',
    () => app('x', { requests: [versioned(256, every(255))], tables: [] }),
  ],
  [
    'an event without a step',
    () => {
      const moved = product.event('moved', { version: 2, upcast: {}, ...names } as never)
      app('x', { requests: [], tables: [], reactions: [product.on(moved, () => {})] })
    },
  ],
] as const) {
  test(`an app with ${what} is refused`, () => {
    assert.throws(make, (error) => error instanceof HenceError && error.code === 'app-invalid')
  })
}

test('a request may have 255 versions', () => {
  app('x', { requests: [versioned(255, every(254))], tables: [] })
})

function versioned(version: number, upcast: object) {
  const input = z.object({ order: z.string() })
  return order.request('r', { version, upcast, input, key: (input) => input.order, derive() {} })
}

function every(count: number) {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [i + 1, same]))
}
