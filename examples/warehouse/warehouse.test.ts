import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage, scenario } from 'hence/testing'
import { appsOf } from '../../test/apps.ts'
import type * as made from './warehouse.ts'
import { discountPercent } from './warehouse.ts'

const { warehouse } = appsOf<typeof made>(import.meta.resolve('./warehouse.ts'))

const ann = { principal: 'ann' }
const bob = { principal: 'bob' }
const mugs = (order: string, units: number, voucher?: string) => ({
  order,
  sku: 'mug',
  units,
  ...(voucher !== undefined && { voucher }),
})
const placed = (owner: string, units: number) =>
  ({ owner, sku: 'mug', units, discountPercent: 0, state: 'placed' }) as const

for (const mode of ['strict', 'loose'] as const) {
  const app = await warehouse(mode, false)
  const stocked = () => scenario(app).given('receive-goods', { sku: 'mug', units: 10 })

  test(`${mode}: cancelled units can be ordered again, shipped units cannot`, () => {
    stocked()
      .given('place-order', mugs('o1', 4), ann)
      .given('place-order', mugs('o2', 6), bob)
      .given('ship-order', { order: 'o1' })
      .when('cancel-order', { order: 'o1' }, ann)
      .thenRejected('no-open-order')
      .when('cancel-order', { order: 'o2' }, ann)
      .thenRejected('no-open-order')
      .when('cancel-order', { order: 'o2' }, bob)
      .thenAccepted()
      .thenClaimed('stock', 'mug', 4)
      .thenRow('products', ['mug'], { received: 10, shipped: 4, writtenOff: 0 })
      .when('receive-goods', { sku: 'mug', units: 1 })
      .thenAccepted({ limit: 11, claimed: 4, excess: 0 })
  })

  test(`${mode}: after the forklift the last order gets an apology and a voucher, which works once`, () => {
    const s = stocked()
      .given('place-order', mugs('o1', 4), ann)
      .given('place-order', mugs('o2', 6), bob)
      .given('ship-order', { order: 'o2' })
      .when('write-off', { sku: 'mug', units: 1, reason: 'forklift' })
      .thenAccepted()
      .thenEffects('apology')
      .thenClaimed('stock', 'mug', 6)
    const voucher = s.row('orders', ['o1'])?.voucher
    assert.ok(voucher)
    s.thenEffect('apology', { to: 'ann', order: 'o1', sku: 'mug', voucher, percent: discountPercent })
      .thenRow('orders', ['o1'], { ...placed('ann', 4), state: 'sorry', voucher })
      .when('place-order', mugs('o3', 1, voucher), ann)
      .thenAccepted({ discountPercent })
      .when('place-order', mugs('o4', 1, voucher), bob)
      .thenRejected('voucher', { key: voucher })
      .thenRow('orders', ['o4'], undefined)
      .thenClaimed('stock', 'mug', 7)
      .given('cancel-order', { order: 'o3' }, ann)
      .when('place-order', mugs('o5', 1, voucher), ann)
      .thenAccepted({ discountPercent })
  })

  test(`${mode}: a made-up voucher is rejected`, () => {
    stocked()
      .when('place-order', mugs('o1', 1, '00000000-0000-4000-8000-000000000000'), ann)
      .thenRejected('voucher')
      .thenClaimed('stock', 'mug', 0)
  })

  test(`${mode}: only existing units can be written off, and an order number is used once`, () => {
    stocked()
      .when('write-off', { sku: 'mug', units: 11, reason: 'forklift' })
      .thenRejected('not-there')
      .given('place-order', mugs('o1', 4), ann)
      .when('place-order', mugs('o1', 5), ann)
      .thenRejected('order-exists')
      .thenClaimed('stock', 'mug', 4)
  })

  test(`${mode}: on 4 partitions 60 orders compete for the units of 30, while goods arrive and break`, async () => {
    const alarms: string[] = []
    const engine = await createEngine({
      app,
      data: memoryStorage({ partitions: 4 }),
      report: ({ message }) => alarms.push(message),
    })
    const skus = ['mug', 'cup', 'urn']
    for (const sku of skus)
      await engine.submit('receive-goods', { sku, units: 12 }, { requestId: `in-${sku}` })
    await Promise.all([
      ...Array.from({ length: 60 }, (_, i) =>
        engine.submit('place-order', { order: `o${i}`, sku: skus[i % 3]!, units: 1 }, { requestId: `r${i}` }),
      ),
      ...Array.from({ length: 60 }, (_, i) =>
        i % 2 === 0
          ? engine.submit('ship-order', { order: `o${i}` }, { requestId: `s${i}` })
          : engine.submit('cancel-order', { order: `o${i}` }, { requestId: `c${i}` }),
      ),
      ...skus.map((sku) =>
        engine.submit('write-off', { sku, units: 2, reason: 'forklift' }, { requestId: `off-${sku}` }),
      ),
    ])
    await engine.idle()
    const orders = await engine.scan('orders')
    for (const sku of skus) {
      const of = (state: string) =>
        orders.filter(({ value }) => value.sku === sku && value.state === state).length
      const { limit, claimed } = await engine.violations.usage('stock', sku)
      assert.equal(limit - claimed, 10 - of('placed') - of('shipped'), 'what is free is not the stock')
      assert.ok(claimed <= limit)
    }
    const sorry = orders.filter(({ value }) => value.state === 'sorry').length
    assert.equal((await engine.effects.list({ type: 'apology' })).length, sorry)
    assert.deepEqual(alarms, [])
    await engine.close()
  })
}

test('strict: an order beyond the stock is rejected', async () => {
  scenario(await warehouse('strict', false))
    .given('receive-goods', { sku: 'mug', units: 3 })
    .when('place-order', mugs('o1', 4), ann)
    .thenRejected('stock', { key: 'mug' })
    .thenRow('orders', ['o1'], undefined)
})

test('loose: an order beyond the stock is accepted and compensated', async () => {
  scenario(await warehouse('loose', false))
    .given('receive-goods', { sku: 'mug', units: 3 })
    .given('place-order', mugs('o1', 3), ann)
    .when('place-order', mugs('o2', 1), bob)
    .thenAccepted()
    .thenEffects('apology')
    .thenRow('orders', ['o1'], placed('ann', 3))
    .thenClaimed('stock', 'mug', 3)
})

for (const mode of ['strict', 'loose'] as const) {
  test(`${mode}: five are ordered, the forklift takes one of three, and who waits is served in order`, async () => {
    const s = scenario(await warehouse(mode)).given('receive-goods', { sku: 'mug', units: 3 })
    for (const order of ['o1', 'o2', 'o3', 'o4', 'o5'])
      s.given('place-order', { ...mugs(order, 1), wait: true }, { principal: order })
    s.thenEffects('delay', 'supply')
      .when('write-off', { sku: 'mug', units: 1, reason: 'forklift' })
      .thenAccepted()
      .thenEffects('delay', 'supply')
      .thenEffect('supply', { sku: 'mug', units: 1 })
      .thenClaimed('stock', 'mug', 2)
    const { voucher, state } = s.row('orders', ['o3'])!
    assert.equal(state, 'waiting')
    s.thenEffect('delay', { to: 'o3', order: 'o3', sku: 'mug', voucher: voucher!, percent: discountPercent })
      .when('ship-order', { order: 'o3' })
      .thenRejected('no-open-order')
      .given('ship-order', { order: 'o1' })
      .when('receive-goods', { sku: 'mug', units: 2 })
      .thenAccepted({ limit: 4, claimed: 4, excess: 0, waiting: 1 })
      .thenRow('orders', ['o3'], { ...placed('o3', 1), voucher: voucher! })
    assert.deepEqual(
      ['o4', 'o5'].map((order) => s.row('orders', [order])!.state),
      ['placed', 'waiting'],
    )
    s.given('cancel-order', { order: 'o5' }, { principal: 'o5' })
      .when('receive-goods', { sku: 'mug', units: 1 })
      .thenAccepted({ limit: 5, claimed: 4, excess: 0, waiting: 0 })
      .thenEffects()
      .given('ship-order', { order: 'o3' })
      .when('place-order', mugs('o6', 1, voucher), { principal: 'o3' })
      .thenAccepted({ discountPercent })
  })
}
