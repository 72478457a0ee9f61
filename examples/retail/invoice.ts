import { HenceError } from 'hence'
import type { Invoice } from './csv.ts'
import type { Submission } from './submission.ts'

/** The sender of a file's invoices. */
const principal = 'importer'

/**
 * The request for an invoice of the data set. Its id is made of the invoice number, so another import of the
 * file, or of a part of it, sends the same requests.
 *
 * - `C…` is a credit note, which names no order,
 * - `A…` adjusts a bad debt,
 * - a row with a negative quantity and no price is a write-off,
 * - everything else is an order.
 *
 * @throws HenceError `csv-invalid` (change) for an invoice that is none of these
 */
export function requestOf(invoice: Invoice): Submission {
  const [first] = invoice
  const { invoice: number, at, customer, country } = first
  const sent = { requestId: `invoice-${number}`, principal }
  for (const row of invoice) {
    if (row.customer !== customer || row.country !== country) {
      throw invalid(row.lineNumber, `invoice ${number} changes its customer or country from row to row`)
    }
  }
  const sale = (sign: 1 | -1) => ({
    number,
    at,
    country,
    ...(customer !== undefined && { customer }),
    lines: invoice.map(({ stockCode, description, quantity, price, lineNumber }) => {
      const units = sign * quantity
      if (units >= 1 && price >= 0) return { stockCode, description, units, price }
      throw invalid(lineNumber, `${quantity} units at ${price / 1000} cannot be in invoice ${number}`)
    }),
  })
  if (number.startsWith('C')) return { type: 'credit-note', input: sale(-1), ...sent }
  if (number.startsWith('A')) {
    const { description } = first
    const amount = invoice.reduce((sum, row) => sum + row.quantity * row.price, 0)
    return { type: 'adjust-debt', input: { number, at, description, amount }, ...sent }
  }
  if (invoice.length === 1 && first.quantity < 0 && first.price === 0) {
    const { stockCode, quantity: units, description: reason } = first
    return { type: 'write-off-stock', input: { number, at, stockCode, units, reason }, ...sent }
  }
  return { type: 'place-order', input: sale(1), ...sent }
}

function invalid(lineNumber: number, message: string): HenceError {
  return new HenceError(
    'csv-invalid',
    'change',
    `Line ${lineNumber}: ${message}. Correct the file and start again.`,
  )
}
