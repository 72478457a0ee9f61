import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assert as check, integer, property } from 'fast-check'
import { formatMoney, parseMoney } from './money.ts'

test('money is read digit by digit', () => {
  const amounts = {
    '2.55': 2_550,
    '2.1': 2_100,
    '7': 7_000,
    '0.001': 1,
    '-11062.06': -11_062_060,
    '1.2500': 1_250,
  }
  for (const [text, amount] of Object.entries(amounts)) assert.equal(parseMoney(text), amount, text)
})

test('zero has no sign', () => {
  assert.equal(Object.is(parseMoney('-0.00'), 0), true)
})

for (const text of ['', '1.2345', '.5', '1.', '1e3', '£2', '1,000', ' 1', '12345678901']) {
  test(`${JSON.stringify(text)} is not an amount`, () => {
    assert.equal(parseMoney(text), undefined)
  })
}

test('money is written with three decimals', () => {
  assert.equal(formatMoney(4_397_950_761), '4397950.761')
  assert.equal(formatMoney(0), '0.000')
  assert.equal(formatMoney(-5), '-0.005')
})

test('an amount that was written is read back unchanged', () => {
  const amount = integer({ min: -(10 ** 12), max: 10 ** 12 })
  check(property(amount, (amount) => parseMoney(formatMoney(amount)) === amount))
})
