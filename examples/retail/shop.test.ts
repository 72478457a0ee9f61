import { test } from 'node:test'
import { bundleApp, type RequestInput } from 'hence'
import { scenario } from 'hence/testing'
import type { Shop } from './shop.ts'

const shop = await bundleApp<Shop>(import.meta.resolve('./shop.ts'))

const mug = { stockCode: '21071', description: 'Vintage Mug', price: 1_250 }
const clock = { stockCode: '22193', description: 'Red Clock', price: 8_495 }
const order = {
  number: '536365',
  at: '2010-12-01T08:26:00',
  customer: '17850',
  country: 'United Kingdom',
  lines: [
    { ...mug, units: 6 },
    { ...clock, units: 2 },
    { ...mug, units: 1 },
  ],
} satisfies RequestInput<Shop, 'place-order'>
const amount = 7 * 1_250 + 2 * 8_495
const orderRow = {
  at: order.at,
  customer: order.customer,
  country: order.country,
  owner: 'ann',
  state: 'open',
  day: '2010-12-01',
  units: 9,
  amount,
} as const
const customerRow = {
  country: 'United Kingdom',
  latest: '2010-12-01T08:26:00 536365',
  orders: 1,
  creditNotes: 0,
  spent: amount,
}
const number = { number: order.number }
const ann = { principal: 'ann' }

test('an order is stored, and its products, customer and day are updated', () => {
  scenario(shop)
    .when('place-order', order, ann)
    .thenAccepted({ units: 9, amount })
    .thenRow('orders', ['536365'], orderRow)
    .thenRow('orderLines', ['536365', 1], { ...mug, units: 6 })
    .thenRow('orderLines', ['536365', 3], { ...mug, units: 1 })
    .thenRow('products', ['21071'], { units: 7, revenue: 8_750, writeOffUnits: 0 })
    .thenRow('products', ['22193'], { units: 2, revenue: 16_990, writeOffUnits: 0 })
    .thenRow('customers', ['17850'], customerRow)
    .thenRow('days', ['2010-12-01'], { orders: 1, creditNotes: 0, revenue: amount })
})

test('a product gets one event for each order, however many lines name it', () => {
  scenario(shop).when('place-order', order).thenEvents('sold', 'sold', 'billed', 'booked')
})

test('an order without a customer counts for its day', () => {
  const { customer: _, ...guest } = order
  scenario(shop)
    .when('place-order', guest)
    .thenEvents('sold', 'sold', 'booked')
    .thenRow('customers', ['17850'], undefined)
    .thenRow('days', ['2010-12-01'], { orders: 1, creditNotes: 0, revenue: amount })
})

test('an order number is used once', () => {
  scenario(shop)
    .given('place-order', order, ann)
    .when('place-order', { ...order, lines: [{ ...clock, units: 1 }] }, ann)
    .thenRejected('order-exists')
    .thenRow('orders', ['536365'], orderRow)
    .thenRow('customers', ['17850'], customerRow)
})

test('a cancellation reverses every total of the order', () => {
  scenario(shop)
    .given('place-order', order, ann)
    .when('cancel-order', number, ann)
    .thenAccepted({ amount })
    .thenRow('orders', ['536365'], { ...orderRow, state: 'cancelled' })
    .thenRow('products', ['21071'], { units: 0, revenue: 0, writeOffUnits: 0 })
    .thenRow('customers', ['17850'], { ...customerRow, orders: 0, spent: 0 })
    .thenRow('days', ['2010-12-01'], { orders: 0, creditNotes: 0, revenue: 0 })
})

test('shipping an order changes its state and the stock, but no totals', () => {
  scenario(shop)
    .given('place-order', order, ann)
    .when('ship-order', number, ann)
    .thenAccepted(null)
    .thenEvents('stock-moved', 'stock-moved')
    .thenRow('orders', ['536365'], { ...orderRow, state: 'shipped' })
})

for (const request of ['ship-order', 'cancel-order'] as const) {
  test(`${request}: not an order that nobody placed`, () => {
    scenario(shop)
      .when(request, number, ann)
      .thenRejected('unknown-order')
      .thenRow('orders', ['536365'], undefined)
  })

  test(`${request}: not the order of another`, () => {
    scenario(shop)
      .given('place-order', order, ann)
      .when(request, number, { principal: 'bob' })
      .thenRejected('not-your-order')
      .thenRow('orders', ['536365'], orderRow)
  })

  test(`${request}: not after it was cancelled`, () => {
    scenario(shop)
      .given('place-order', order, ann)
      .given('cancel-order', number, ann)
      .when(request, number, ann)
      .thenRejected('already-cancelled')
      .thenRow('orders', ['536365'], { ...orderRow, state: 'cancelled' })
  })

  test(`${request}: not after it was shipped`, () => {
    scenario(shop)
      .given('place-order', order, ann)
      .given('ship-order', number, ann)
      .when(request, number, ann)
      .thenRejected('already-shipped')
      .thenRow('orders', ['536365'], { ...orderRow, state: 'shipped' })
      .thenRow('days', ['2010-12-01'], { orders: 1, creditNotes: 0, revenue: amount })
  })
}

const note = { ...order, number: 'C536379', at: '2010-12-02T09:41:00', lines: [{ ...mug, units: 2 }] }

test('a credit note counts on its own day', () => {
  const { number: _, ...kept } = note
  scenario(shop)
    .given('place-order', order)
    .when('credit-note', note)
    .thenAccepted({ amount: 2_500 })
    .thenRow('creditNotes', ['C536379'], { ...kept, amount: 2_500 })
    .thenRow('products', ['21071'], { units: 5, revenue: 6_250, writeOffUnits: 0 })
    .thenRow('customers', ['17850'], {
      country: 'United Kingdom',
      latest: '2010-12-02T09:41:00 C536379',
      orders: 1,
      creditNotes: 1,
      spent: amount - 2_500,
    })
    .thenRow('days', ['2010-12-01'], { orders: 1, creditNotes: 0, revenue: amount })
    .thenRow('days', ['2010-12-02'], { orders: 0, creditNotes: 1, revenue: -2_500 })
})

test('a credit note counts once', () => {
  scenario(shop)
    .given('credit-note', note)
    .when('credit-note', note)
    .thenRejected('credit-note-exists')
    .thenRow('products', ['21071'], { units: -2, revenue: -2_500, writeOffUnits: 0 })
})

test('a write-off lowers the stock of its product, once', () => {
  const { stockCode } = mug
  const writeOff = { number: '536589', at: '2010-12-01T16:50:00', stockCode, units: -10, reason: 'damaged' }
  const { number, ...kept } = writeOff
  scenario(shop)
    .when('write-off-stock', writeOff)
    .thenAccepted(null)
    .thenRow('writeOffs', [number], kept)
    .thenRow('products', [stockCode], { units: 0, revenue: 0, writeOffUnits: -10 })
    .when('write-off-stock', writeOff)
    .thenRejected('write-off-exists')
    .thenRow('products', [stockCode], { units: 0, revenue: 0, writeOffUnits: -10 })
})

test('an adjusted debt counts for its day, once', () => {
  const adjustment = {
    number: 'A563185',
    at: '2011-08-12T14:50:00',
    description: 'Adjust bad debt',
    amount: -11_062_060,
  }
  const { number, ...kept } = adjustment
  scenario(shop)
    .when('adjust-debt', adjustment)
    .thenAccepted(null)
    .thenRow('adjustments', [number], kept)
    .thenRow('days', ['2011-08-12'], { orders: 0, creditNotes: 0, revenue: -11_062_060 })
    .when('adjust-debt', adjustment)
    .thenRejected('adjustment-exists')
    .thenRow('days', ['2011-08-12'], { orders: 0, creditNotes: 0, revenue: -11_062_060 })
})

test('the latest invoice decides the country, in whatever order invoices arrive', () => {
  const later = { ...order, number: '540000', at: '2011-01-04T10:00:00', country: 'Belgium' }
  const row = {
    country: 'Belgium',
    latest: '2011-01-04T10:00:00 540000',
    orders: 2,
    creditNotes: 0,
    spent: 2 * amount,
  }
  for (const [first, second] of [
    [order, later],
    [later, order],
  ] as const) {
    scenario(shop)
      .given('place-order', first)
      .when('place-order', second)
      .thenRow('customers', ['17850'], row)
  }
})

const claimed = (units: number, limit = 1_000_000) =>
  scenario(shop)
    .given('place-order', order, ann)
    .thenClaimed('stock', '21071', units)
    .given('count-stock', { stockCode: '21071', units: limit })

test('an order claims its units, and a cancellation releases them', () => {
  claimed(7)
    .thenClaimed('stock', '22193', 2)
    .given('cancel-order', number, ann)
    .thenClaimed('stock', '21071', 0)
    .thenClaimed('stock', '22193', 0)
})

test('shipped units leave the stock', () => {
  claimed(7, 10)
    .given('ship-order', number, ann)
    .thenClaimed('stock', '21071', 0)
    .when('write-off-stock', { number: 'w1', at: order.at, stockCode: '21071', units: -1, reason: 'broken' })
    .thenAccepted()
    .when('count-stock', { stockCode: '21071', units: 2 })
    .thenAccepted({ limit: 2, claimed: 0, excess: 0 })
    .given('credit-note', note)
    .when('place-order', { ...order, number: '536366', lines: [{ ...mug, units: 4 }] }, ann)
    .thenAccepted()
    .thenEffects()
    .when('place-order', { ...order, number: '536367', lines: [{ ...mug, units: 1 }] }, ann)
    .thenEffects('apology')
})

test('after the forklift the newest order is compensated whole, and removed from the books', () => {
  claimed(7, 7)
    .when('write-off-stock', {
      number: 'w1',
      at: order.at,
      stockCode: '21071',
      units: -1,
      reason: 'forklift',
    })
    .thenEffect('apology', { to: 'ann', number: '536365', stockCode: '21071', amount })
    .thenRow('orders', ['536365'], { ...orderRow, state: 'sold-out' })
    .thenRow('products', ['22193'], { units: 0, revenue: 0, writeOffUnits: 0 })
    .thenRow('days', ['2010-12-01'], { orders: 0, creditNotes: 0, revenue: 0 })
    .thenClaimed('stock', '22193', 0)
    .when('ship-order', number, ann)
    .thenRejected('sold-out')
})
