import { app, type CapacityOptions, type Constraint, effect, reject, scopes } from 'hence'
import { z } from 'zod'

export function shopWith(options: CapacityOptions) {
  const [product, order, name] = scopes('product', 'order', 'name')
  const sorry = effect('sorry', { input: z.object({ to: z.string() }) })
  const stock = product.capacity('stock', options)
  const taken = name.unique('name-taken', options.mode === undefined ? {} : { mode: options.mode })
  const orders = order.table('orders', {
    value: z.object({ state: z.enum(['placed', 'cancelled', 'sorry']), why: z.string().optional() }),
  })
  const place = order.request('place', {
    input: z.object({
      order: z.string(),
      skus: z.array(z.string()),
      name: z.string().optional(),
      priority: z.number().optional(),
      fail: z.enum(['reject', 'throw']).optional(),
    }),
    key: (input) => input.order,
    claims: ({ skus, name, priority }) => [
      ...skus.map((sku) => stock.claim(sku, 1, priority === undefined ? {} : { priority })),
      ...(name === undefined ? [] : [taken.claim(name)]),
    ],
    derive(tx, { fail }) {
      if (tx.get(orders)) return reject('order-exists')
      tx.put(orders, { state: 'placed' })
      if (fail === 'throw') throw new Error('boom')
      if (fail === 'reject') return reject('not-wanted')
      return { at: tx.now }
    },
    compensate(tx, { order }, { constraint, key }) {
      if (order.startsWith('broken')) throw new Error('cannot')
      tx.put(orders, { state: 'sorry', why: `${constraint} ${key}` })
      tx.effect(sorry, { to: tx.principal })
    },
  })
  const cancel = order.request('cancel', {
    input: z.object({ order: z.string(), sku: z.string().optional() }),
    key: (input) => input.order,
    derive(tx, { sku }) {
      tx.put(orders, { state: 'cancelled' })
      return { released: tx.release(stock, sku) + tx.release(taken) }
    },
  })
  const confirm = order.request('confirm', {
    input: z.object({ order: z.string() }),
    key: (input) => input.order,
    derive: (tx) => ({ confirmed: tx.confirm(stock) }),
  })
  const restock = product.request('restock', {
    input: z.object({ sku: z.string(), by: z.int() }),
    key: (input) => input.sku,
    derive(tx, { by }) {
      tx.adjustLimit(stock, by)
      return { ...tx.usage(stock) }
    },
  })
  const settle = product.request('settle', {
    input: z.object({ sku: z.string() }),
    key: (input) => input.sku,
    derive: (tx) => ({ gone: tx.settle(stock) }),
  })
  return app('shop', {
    requests: [place, cancel, confirm, restock, settle],
    tables: [orders],
    constraints: [stock, taken] as Constraint[],
    effects: [sorry],
  })
}

export function names() {
  const [name, account] = scopes('name', 'account')
  const taken = name.unique('taken', { mode: 'loose', review: 'human' })
  const register = account.request('register', {
    input: z.object({ account: z.string(), name: z.string() }),
    key: (input) => input.account,
    claims: (input) => [taken.claim(input.name)],
    derive: () => null,
  })
  return app('names', { requests: [register], tables: [], constraints: [taken] })
}

export function chain() {
  const [product, order] = scopes('product', 'order')
  const stock = product.capacity('stock', { limit: 1 })
  const orders = order.table('orders', { value: z.object({ sorry: z.boolean() }) })
  const input = z.object({ order: z.string(), sku: z.string() })
  const place = order.request('place', {
    input,
    key: (input) => input.order,
    claims: ({ sku }) => [stock.claim(sku)],
    derive: (tx) => tx.put(orders, { sorry: false }),
    compensate: (tx) => tx.put(orders, { sorry: true }),
  })
  const hop = product.event('hop', {
    data: z.object({ sku: z.string(), left: z.int() }),
    key: (data) => data.sku,
  })
  const hopped = product.on(hop, (tx, { sku, left }) => {
    if (left > 0) tx.emit(hop, { sku, left: left - 1 })
    else tx.setLimit(stock, 0)
  })
  const shrink = product.request('shrink', {
    input: z.object({ sku: z.string(), hops: z.int() }),
    key: (input) => input.sku,
    derive: (tx, { sku, hops }) => tx.emit(hop, { sku, left: hops - 1 }),
  })
  return app('shop', {
    requests: [place, shrink],
    tables: [orders],
    reactions: [hopped],
    constraints: [stock],
  })
}
