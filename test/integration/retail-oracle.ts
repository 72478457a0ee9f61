import { readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { parse } from 'csv-parse'
import type { Submission } from '../../examples/retail/submission.ts'

// The differences that the two versions of the shop must have, computed from the invoices alone, without
// running the shop or Hence.

/** An invoice that was accepted, and the requests whose reply had its amount. */
export interface Paper {
  readonly kind: 'order' | 'cancelled-order' | 'credit-note' | 'adjustment'
  readonly number: string
  readonly day: string
  readonly customer: string | undefined
  /** In thousandths of a pound. */
  readonly lines: readonly { readonly stockCode: string; readonly amount: number }[]
  readonly told: readonly { readonly principal: string; readonly requestId: string }[]
}

/** A row or outcome that differs: the fields that do, or all known fields if one version lacks it. */
export interface Wrong {
  /** For example `orders 536365`, or `outcome importer invoice-536365`. */
  readonly name: string
  readonly before: Readonly<Record<string, number>> | undefined
  readonly after: Readonly<Record<string, number>> | undefined
}

/** Everything that must differ, ordered by name. Nothing else may. */
export function wrongBy(papers: readonly Paper[]): Wrong[] {
  const [before, after] = [booksOf(papers, 1), booksOf(papers, 2)]
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((name) => {
    const wrong = differingFields(before.get(name), after.get(name))
    return wrong ? [{ name, ...wrong }] : []
  })
}

/** The revenue of all days, in thousandths of a pound, by version. */
export function revenueBy(papers: readonly Paper[], version: 1 | 2): number {
  return [...booksOf(papers, version)].reduce(
    (sum, [name, row]) => sum + (name.startsWith('days ') ? row['revenue']! : 0),
    0,
  )
}

/** The fields of a row that differ; undefined if none does. */
export function differingFields<Row extends object>(
  before: Row | undefined,
  after: Row | undefined,
): { before: Row | undefined; after: Row | undefined } | undefined {
  if (!before || !after) return { before, after }
  const of = (row: Row, other: Row) =>
    Object.fromEntries(
      Object.entries(row).filter(
        ([field, value]) => !isDeepStrictEqual((other as Record<string, unknown>)[field], value),
      ),
    ) as Row
  const fields = { before: of(before, after), after: of(after, before) }
  return Object.keys(fields.before).length + Object.keys(fields.after).length > 0 ? fields : undefined
}

/** The rows that hold money. Version 1 uses floating-point pounds and misses credit notes of guests. */
function booksOf(papers: readonly Paper[], version: 1 | 2): Map<string, Record<string, number>> {
  const books = new Map<string, Record<string, number>>()
  const kept = (amount: number) => (version === 1 ? Math.trunc((amount / 1000) * 1000) : amount)
  const add = (name: string, fields: Readonly<Record<string, number>>) => {
    const row = books.get(name) ?? {}
    for (const [field, value] of Object.entries(fields)) row[field] = (row[field] ?? 0) + value
    books.set(name, row)
  }
  for (const { kind, number, day, customer, lines, told } of papers) {
    const sum = lines.reduce((sum, { amount }) => sum + amount, 0)
    if (kind === 'adjustment') {
      add(`days ${day}`, { orders: 0, creditNotes: 0, revenue: sum })
      continue
    }
    const amount = kept(sum)
    add(`${kind === 'credit-note' ? 'creditNotes' : 'orders'} ${number}`, { amount })
    for (const { principal, requestId } of told) add(`outcome ${principal} ${requestId}`, { amount })

    const counts = { orders: Number(kind === 'order'), creditNotes: Number(kind === 'credit-note') }
    const sign = counts.orders - counts.creditNotes
    for (const [stockCode, its] of Map.groupBy(lines, (line) => line.stockCode)) {
      const revenue = sign * kept(its.reduce((sum, { amount }) => sum + amount, 0))
      add(`products ${stockCode}`, { revenue })
    }
    if (customer !== undefined) add(`customers ${customer}`, { spent: sign * amount })
    const isForgotten = version === 1 && kind === 'credit-note' && customer === undefined
    if (!isForgotten) add(`days ${day}`, { ...counts, revenue: sign * amount })
  }
  return books
}

/** The invoices of a file of the data set. */
export async function papersOfFile(path: string): Promise<Paper[]> {
  const text = gunzipSync(await readFile(path))
  const rows: Record<string, string>[] = await parse(text, { columns: true }).toArray()
  const invoices = Map.groupBy(rows, (row) => row['InvoiceNo']!)
  return [...invoices].flatMap(([number, rows]): Paper[] => {
    const [first] = rows as [Record<string, string>]
    const kind = { C: 'credit-note', A: 'adjustment' }[number[0]!] ?? 'order'
    const units = (row: Record<string, string>) => Number(row['Quantity'])
    // Written-off stock is not money.
    if (kind === 'order' && units(first) < 0) return []
    return [
      {
        kind: kind as Paper['kind'],
        number,
        day: first['InvoiceDate']!.slice(0, 10),
        customer: first['CustomerID']!.replace('.0', '') || undefined,
        lines: rows.map((row) => ({
          stockCode: row['StockCode']!,
          amount:
            (kind === 'credit-note' ? -1 : 1) * units(row) * Math.round(Number(row['UnitPrice']) * 1000),
        })),
        told: kind === 'adjustment' ? [] : [{ principal: 'importer', requestId: `invoice-${number}` }],
      },
    ]
  })
}

/** The invoices of the sample: the first of each number, with its outcome. */
export function papersOfSample(submissions: readonly Submission[]): Paper[] {
  const papers = new Map<string, Paper & { readonly owner: string; readonly isShipped?: true }>()
  const sent = new Set<string>()
  for (const { type, input, principal, requestId } of submissions) {
    if (sent.has(`${principal} ${requestId}`)) continue
    sent.add(`${principal} ${requestId}`)
    const before = papers.get(input.number)
    const told = { principal, requestId }
    if (type === 'ship-order' || type === 'cancel-order') {
      if (before?.kind !== 'order' || before.owner !== principal || before.isShipped) continue
      papers.set(
        input.number,
        type === 'ship-order'
          ? { ...before, isShipped: true }
          : { ...before, kind: 'cancelled-order', told: [...before.told, told] },
      )
    } else if (type !== 'write-off-stock' && !before) {
      const { number, at } = input
      const head = { number, day: at.slice(0, 10), owner: principal }
      papers.set(
        number,
        type === 'adjust-debt'
          ? {
              kind: 'adjustment',
              ...head,
              customer: undefined,
              lines: [{ stockCode: '', amount: input.amount }],
              told: [],
            }
          : {
              kind: type === 'place-order' ? 'order' : 'credit-note',
              ...head,
              customer: input.customer,
              lines: input.lines.map(({ stockCode, units, price }) => ({ stockCode, amount: units * price })),
              told: [told],
            },
      )
    }
  }
  return [...papers.values()]
}
