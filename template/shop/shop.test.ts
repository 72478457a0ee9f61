import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp } from 'hence'
import { scenario, simulate } from 'hence/testing'
import type shop from './shop.ts'

const app = await bundleApp<typeof shop>(import.meta.resolve('./shop.ts'))

const mugs = { product: 'mug', title: 'A mug', quantity: 2 }

test('no more is sold than is in stock', () => {
  scenario(app)
    .given('stock-product', mugs)
    .when('place-order', { order: 'o1', product: 'mug', quantity: 2, customer: 'ada' })
    .thenAccepted({ left: 0 })
    .thenRow('products', ['mug'], { title: 'A mug', stock: 0 })
    .when('place-order', { order: 'o2', product: 'mug', quantity: 1, customer: 'bob' })
    .thenRejected('out-of-stock', { stock: 0 })
    .thenRow('orders', ['mug', 'o2'], undefined)
})

test('an order number is used once', () => {
  scenario(app)
    .given('stock-product', mugs)
    .given('place-order', { order: 'o1', product: 'mug', quantity: 1, customer: 'ada' })
    .when('place-order', { order: 'o1', product: 'mug', quantity: 1, customer: 'ada' })
    .thenRejected('order-exists')
})

test('an unknown product is rejected', () => {
  scenario(app)
    .when('place-order', { order: 'o1', product: 'unicorn', quantity: 1, customer: 'ada' })
    .thenRejected('no-such-product')
})

// The whole pipeline, with crashes, lost messages and full disks, from a seed.
test('stock is never sold twice, whatever fails', async () => {
  await simulate(app, {
    runs: 3,
    clients: (draw) =>
      draw.chance(0.2)
        ? ['stock-product', mugs]
        : ['place-order', { order: `o${draw.below(30)}`, product: 'mug', quantity: 1, customer: 'ada' }],
    invariant: ({ rows }) => assert.ok(rows('products').every(({ value }) => value.stock >= 0)),
  })
})
