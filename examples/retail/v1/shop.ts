/**
 * The shop as it was first written, with two bugs that nobody noticed for months. `../shop.ts` mends them, and
 * `../mend.ts` shows how what was derived wrongly is derived again.
 */
import { amountOf, type Booking, type Line, retail, type Sale } from '../shop.ts'

/**
 * The first bug: an amount goes by way of pounds, which are floats, and what is no whole thousandth is cut off. So
 * 4.02 pounds, which are 4019.9999999999995 thousandths by that, become 4019.
 */
function cutAmountOf(lines: readonly Line[]): number {
  const pounds = amountOf(lines) / 1000
  return Math.trunc(pounds * 1000)
}

/** The second bug: a credit note of nobody in particular is forgotten by its day. */
function countsForDay({ customer }: Sale, { creditNotes }: Booking): boolean {
  return creditNotes === 0 || customer !== undefined
}

export default retail({ amountOf: cutAmountOf, countsForDay })
