import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { CsvError, parse } from 'csv-parse/sync'
import { HenceError } from 'hence'
import { parseMoney } from './money.ts'

/**
 * Reads the UCI "Online Retail" data set (doi:10.24432/C5BW33) as CSV or CSV.gz: in UTF-8, with or without
 * a byte order mark, with either kind of line end.
 */
export interface InvoiceFile {
  /** The number of invoices. */
  readonly count: number
  /** The invoices, each once its last row has been read. */
  invoices(): AsyncIterable<Invoice>
}

/** The rows of one invoice number, in the order of the file. */
export type Invoice = readonly [InvoiceRow, ...InvoiceRow[]]

export interface InvoiceRow {
  /** The line on which the row ends; the header is line 1. */
  readonly lineNumber: number
  readonly invoice: string
  readonly stockCode: string
  readonly description: string
  readonly quantity: number
  /** `2010-12-01T08:26:00` */
  readonly at: string
  /** In thousandths of a pound. */
  readonly price: number
  readonly customer: string | undefined
  readonly country: string
}

const header = [
  'InvoiceNo',
  'StockCode',
  'Description',
  'Quantity',
  'InvoiceDate',
  'UnitPrice',
  'CustomerID',
  'Country',
]

/**
 * Reads the file twice: first to check its form and to find where each invoice ends, since rows of other
 * invoices may come in between; then for the invoices themselves. So a malformed file is refused before its
 * first request is sent, and only unfinished invoices are in memory.
 *
 * @throws HenceError `csv-invalid` (change), which names the file and the line
 */
export async function openInvoices(path: string): Promise<InvoiceFile> {
  const lastLines = new Map<string, number>()
  for await (const rows of readRows(path)) for (const row of rows) lastLines.set(row.invoice, row.lineNumber)
  return {
    count: lastLines.size,
    async *invoices() {
      const open = new Map<string, [InvoiceRow, ...InvoiceRow[]]>()
      for await (const read of readRows(path)) {
        for (const row of read) {
          const rows = open.get(row.invoice)
          if (rows) rows.push(row)
          else open.set(row.invoice, [row])
          if (lastLines.get(row.invoice) !== row.lineNumber) continue
          yield open.get(row.invoice)!
          open.delete(row.invoice)
        }
      }
    },
  }
}

/** The rows of the file, some at a time. */
async function* readRows(path: string): AsyncGenerator<InvoiceRow[]> {
  const file = createReadStream(path)
  // The pipeline destroys its last stream with the error, so errors arrive there.
  const bytes = path.endsWith('.gz') ? pipeline(file, createGunzip(), () => {}) : file
  let headerSeen = false
  let lineNumber = 0
  /** A record whose quotes are still open, and the line before it. */
  let open = { text: '', before: 0 }
  const read = (line: string): InvoiceRow[] => {
    lineNumber++
    const isOpen = open.text !== ''
    const hasQuotes = line.includes('"')
    if (!isOpen && !hasQuotes) return row((line.endsWith('\r') ? line.slice(0, -1) : line).split(','))
    open = isOpen ? { ...open, text: `${open.text}\n${line}` } : { text: line, before: lineNumber - 1 }
    const closes = hasQuotes && line.split('"').length % 2 === (isOpen ? 0 : 1)
    return closes ? close() : []
  }
  const row = (fields: string[]): InvoiceRow[] => {
    if (headerSeen) return [rowOf(fields, lineNumber)]
    checkHeader(fields)
    headerSeen = true
    return []
  }
  const close = (): InvoiceRow[] => {
    const { text, before } = open
    open = { text: '', before }
    return row(
      quotedFields(text) ?? parse(text, { relax_column_count: true, record_delimiter: ['\n', '\r\n'] })[0]!,
    )
  }
  try {
    let rest = ''
    for await (const text of decodeText(bytes)) {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      yield lines.flatMap(read)
    }
    if (rest !== '') yield read(rest)
    if (open.text !== '') yield close()
    if (!headerSeen) throw invalid(1, 'the file is empty')
  } catch (error) {
    if (!(error instanceof Error)) throw error
    const { lines } = error as { lines?: number }
    // The parser counts lines from the first one of the record.
    const line = lines !== undefined && error instanceof CsvError ? open.before + lines : lines
    const place = line === undefined ? path : `${path}, line ${line}`
    throw new HenceError(
      'csv-invalid',
      'change',
      `${place}: ${error.message}. No row of this file was sent. Correct it and start again.`,
      { cause: error },
    )
  }
}

/** The fields of a record with quotes; undefined if it is malformed, which the parser explains. */
function quotedFields(text: string): string[] | undefined {
  const fields: string[] = []
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?$)/y
  for (let separator: string | undefined = ','; separator === ','; ) {
    const found = field.exec(text)
    if (found === null) return undefined
    fields.push(found[1]?.replaceAll('""', '"') ?? found[2]!)
    separator = found[3]
  }
  return fields
}

/** Refuses other encodings, which would silently corrupt names; removes a byte order mark. */
async function* decodeText(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const decode = (chunk?: Buffer) => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined })
    } catch (cause) {
      throw new Error('the file is not UTF-8: convert it, for example with `iconv -f iso-8859-1 -t utf-8`', {
        cause,
      })
    }
  }
  for await (const chunk of chunks) yield decode(chunk)
  yield decode()
}

function checkHeader(fields: readonly string[]): void {
  if (fields.join() === header.join()) return
  throw invalid(1, `the header must be ${header.join()}, not ${fields.join()}`)
}

function rowOf(fields: readonly string[], lineNumber: number): InvoiceRow {
  if (fields.length !== header.length) {
    throw invalid(lineNumber, `a row has ${header.length} fields, not ${fields.length}`)
  }
  const [invoice, stockCode, description, quantity, date, price, customer, country] =
    fields as unknown as Eight<string>
  const read = <T>(column: string, text: string, value: T | undefined): T => {
    if (value === undefined) throw invalid(lineNumber, `${column} cannot be ${JSON.stringify(text)}`)
    return value
  }
  return {
    lineNumber,
    invoice: read('InvoiceNo', invoice, /^\w{1,20}$/.test(invoice) ? invoice : undefined),
    stockCode: read('StockCode', stockCode, stockCode || undefined),
    description,
    quantity: read('Quantity', quantity, /^-?\d{1,9}$/.test(quantity) ? Number(quantity) : undefined),
    at: read('InvoiceDate', date, parseTime(date)),
    price: read('UnitPrice', price, parseMoney(price)),
    customer:
      read('CustomerID', customer, /^(\d+(\.0)?)?$/.test(customer) ? customer : undefined).replace(
        '.0',
        '',
      ) || undefined,
    country: read('Country', country, country || undefined),
  }
}
type Eight<T> = [T, T, T, T, T, T, T, T]

/** The time that was read last: most rows have the one of the row before. */
let latest: { readonly text: string; readonly time: string | undefined } = { text: '', time: undefined }

/** Reads `2010-12-01 08:26:00`, and `12/1/2010 8:26` (month first) as in the original spreadsheet. */
function parseTime(text: string): string | undefined {
  if (text !== latest.text) latest = { text, time: timeOf(text) }
  return latest.time
}

function timeOf(text: string): string | undefined {
  const iso =
    /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[ T](?<hour>\d\d):(?<minute>\d\d)(:(?<second>\d\d))?$/
  const us = /^(?<month>\d{1,2})\/(?<day>\d{1,2})\/(?<year>\d{4}) (?<hour>\d{1,2}):(?<minute>\d\d)$/
  const parts = (iso.exec(text) ?? us.exec(text))?.groups
  if (!parts) return undefined
  const two = (part = '00') => part.padStart(2, '0')
  const { year, month, day, hour, minute, second } = parts
  const time = `${year}-${two(month)}-${two(day)}T${two(hour)}:${two(minute)}:${two(second)}`
  // `Date` reads 30 February as 2 March, so compare: only real times come out unchanged.
  const date = new Date(`${time}Z`)
  return !Number.isNaN(date.valueOf()) && date.toISOString().startsWith(time) ? time : undefined
}

/** An error in the form of the parser's errors. */
function invalid(lines: number, message: string): Error {
  return Object.assign(new Error(message), { lines })
}
