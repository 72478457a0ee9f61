/**
 * The first version of the shop, with two bugs that nobody noticed for months. `../shop.ts` fixes them, and
 * `../mend.ts` shows how the wrong rows are derived again.
 */
import { amountOf, type Booking, type Line, retail, type Sale } from '../shop.ts'

/**
 * The first bug: amounts are calculated in floating-point pounds and then truncated to thousandths. So 4.02
 * pounds, or 4019.9999999999995 thousandths, become 4019.
 */
function cutAmountOf(lines: readonly Line[]): number {
  const pounds = amountOf(lines) / 1000
  return Math.trunc(pounds * 1000)
}

/** The second bug: the totals of a day miss credit notes without a customer. */
function countsForDay({ customer }: Sale, { creditNotes }: Booking): boolean {
  return creditNotes === 0 || customer !== undefined
}

export default retail({ amountOf: cutAmountOf, countsForDay })
