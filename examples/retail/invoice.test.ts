import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Invoice, InvoiceRow } from './csv.ts'
import { requestOf } from './invoice.ts'

const row: InvoiceRow = {
  lineNumber: 2,
  invoice: '536365',
  stockCode: '85123A',
  description: 'LIGHT HOLDER',
  quantity: 6,
  at: '2010-12-01T08:26:00',
  price: 2_550,
  customer: '17850',
  country: 'United Kingdom',
}
const invoice = (first: Partial<InvoiceRow>, ...others: Partial<InvoiceRow>[]): Invoice => [
  { ...row, ...first },
  ...others.map((other) => ({ ...row, ...first, ...other })),
]
const head = { at: row.at, customer: '17850', country: 'United Kingdom' }
const goods = { stockCode: '85123A', description: 'LIGHT HOLDER', price: 2_550 }

test('an invoice becomes an order, including equal rows', () => {
  assert.deepEqual(requestOf(invoice({}, {}, { quantity: 1, price: 0 })), {
    type: 'place-order',
    input: {
      number: '536365',
      ...head,
      lines: [
        { ...goods, units: 6 },
        { ...goods, units: 6 },
        { ...goods, units: 1, price: 0 },
      ],
    },
    requestId: 'invoice-536365',
    principal: 'importer',
  })
})

test('a guest has no customer', () => {
  assert.equal('customer' in requestOf(invoice({ customer: undefined })).input, false)
})

test('C is a credit note for the returned units', () => {
  assert.deepEqual(requestOf(invoice({ invoice: 'C536379', quantity: -2 })), {
    type: 'credit-note',
    input: { number: 'C536379', ...head, lines: [{ ...goods, units: 2 }] },
    requestId: 'invoice-C536379',
    principal: 'importer',
  })
})

test('A is an adjustment of a debt', () => {
  const adjustment = { invoice: 'A563186', description: 'Adjust bad debt', quantity: 1, price: -11_062_060 }
  assert.deepEqual(requestOf(invoice({ ...adjustment, customer: undefined })), {
    type: 'adjust-debt',
    input: { number: 'A563186', at: row.at, description: 'Adjust bad debt', amount: -11_062_060 },
    requestId: 'invoice-A563186',
    principal: 'importer',
  })
})

test('a negative quantity without a price is a write-off', () => {
  assert.deepEqual(
    requestOf(invoice({ description: 'damaged', quantity: -10, price: 0, customer: undefined })),
    {
      type: 'write-off-stock',
      input: { number: '536365', at: row.at, stockCode: '85123A', units: -10, reason: 'damaged' },
      requestId: 'invoice-536365',
      principal: 'importer',
    },
  )
})

for (const [what, rows] of [
  ['goods returned without a credit note', invoice({}, { lineNumber: 7, quantity: -1 })],
  ['a credit note that sells', invoice({ invoice: 'C1', quantity: -1 }, { lineNumber: 7, quantity: 1 })],
  ['a price below nought', invoice({}, { lineNumber: 7, price: -1 })],
  ['no units', invoice({}, { lineNumber: 7, quantity: 0 })],
  ['two customers', invoice({}, { lineNumber: 7, customer: '12345' })],
  ['two countries', invoice({}, { lineNumber: 7, country: 'EIRE' })],
] as const) {
  test(`${what} is refused, with its line`, () => {
    assert.throws(() => requestOf(rows), { code: 'csv-invalid', message: /^Line 7: / })
  })
}
