import { type Engine, HenceError } from 'hence'
import type { Tally } from './import.ts'
import { formatMoney } from './money.ts'
import type { Shop } from './shop.ts'

/** The counts of an import, and the totals of the shop's books after it. */
export interface Summary {
  readonly requests: number
  readonly accepted: number
  readonly rejected: number
  readonly failed: number
  readonly duplicates: number
  readonly requestsPerSecond: number
  /** Pounds with three decimals, as text, never through floating point. */
  readonly revenue: string
  readonly writeOffUnits: number
  readonly customers: number
  readonly stockCodes: number
  /** SHA-256 over all tables. */
  readonly digest: string
}

/** Adds up the tables once every request that was sent has been applied. */
export async function summarize(
  engine: Engine<Shop>,
  { accepted, rejected, failed, duplicates }: Tally,
  seconds: number,
): Promise<Summary> {
  await engine.idle()
  const requests = accepted + rejected + failed + duplicates
  const products = await engine.scan('products')
  const customers = await engine.scan('customers')
  return {
    requests,
    accepted,
    rejected,
    failed,
    duplicates,
    requestsPerSecond: Math.round(requests / seconds),
    revenue: await revenueOf(engine),
    writeOffUnits: sum(products, (row) => row.writeOffUnits),
    customers: customers.length,
    stockCodes: products.length,
    digest: await engine.digest(),
  }
}

/** The revenue of all days, in pounds with three decimals. */
export async function revenueOf(engine: Engine<Shop>): Promise<string> {
  return formatMoney(sum(await engine.scan('days'), (row) => row.revenue))
}

/** The summary as text, with the reasons of rejections. */
export function describe(summary: Summary, reasons: ReadonlyMap<string, number>): string {
  const why = [...reasons].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} ${reason}`)
  return table([
    ['requests', count(summary.requests), `${count(summary.requestsPerSecond)} a second`],
    ['accepted', count(summary.accepted)],
    ['rejected', count(summary.rejected), why.join(', ')],
    ['failed', count(summary.failed)],
    ['duplicates', count(summary.duplicates), 'sent before: the stored outcome came back, nothing changed'],
    [],
    ['revenue', `£${grouped(summary.revenue)}`],
    ['write-offs', count(summary.writeOffUnits), 'units'],
    ['customers', count(summary.customers)],
    ['stock codes', count(summary.stockCodes)],
    [],
    ['digest', summary.digest],
  ])
}

/** The best products and customers, each found by an index. */
export async function describeBest(engine: Engine<Shop>, limit = 5): Promise<string> {
  const products = await engine.scan('products', { index: 'byRevenue', reverse: true, limit })
  const customers = await engine.scan('customers', { index: 'bySpent', reverse: true, limit })
  return [
    'Best products',
    table(products.map(({ key, value }) => [key[0], pounds(value.revenue), `${count(value.units)} units`])),
    '',
    'Best customers',
    table(customers.map(({ key, value }) => [key[0], pounds(value.spent), value.country])),
  ].join('\n')
}

function sum<Row>(rows: readonly { readonly value: Row }[], of: (row: Row) => number): number {
  const total = rows.reduce((total, { value }) => total + of(value), 0)
  if (Number.isSafeInteger(total)) return total
  throw new HenceError('total-too-large', 'operator', `A total of ${total} is too large to be exact.`)
}

/** Aligns names to the left and figures to the right, with notes after them. */
function table(rows: readonly (readonly string[])[]): string {
  const short = rows.filter(([, figure = '']) => figure.length <= 20)
  const width = (column: number) => Math.max(...short.map((row) => row[column]?.length ?? 0))
  const [names, figures] = [width(0), width(1)]
  return rows
    .map(([name = '', figure = '', note = '']) =>
      `  ${name.padEnd(names)}  ${figure.padStart(figures)}  ${note}`.trimEnd(),
    )
    .join('\n')
}

function pounds(amount: number): string {
  return `£${grouped(formatMoney(amount))}`
}

function count(units: number): string {
  return grouped(String(units))
}

export function grouped(digits: string): string {
  return digits.replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ',')
}
