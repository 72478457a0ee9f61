import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { HenceError } from 'hence'
import { type Invoice, openInvoices } from './csv.ts'

const directory = await mkdtemp(join(tmpdir(), 'hence-csv-'))
after(() => rm(directory, { recursive: true }))

const header = 'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country'
const row = '536365,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom'

async function read(content: string | Buffer, name = 'orders.csv') {
  const path = join(directory, name)
  await writeFile(path, content)
  const file = await openInvoices(path)
  const invoices: Invoice[] = []
  for await (const invoice of file.invoices()) invoices.push(invoice)
  assert.equal(file.count, invoices.length)
  return invoices
}

test('a row is read', async () => {
  assert.deepEqual(await read(`${header}\n${row}\n`), [
    [
      {
        lineNumber: 2,
        invoice: '536365',
        stockCode: '85123A',
        description: 'LIGHT HOLDER',
        quantity: 6,
        at: '2010-12-01T08:26:00',
        price: 2_550,
        customer: '17850',
        country: 'United Kingdom',
      },
    ],
  ])
})

test('a file with only a header has no invoices', async () => {
  assert.deepEqual(await read(`${header}\n`), [])
})

const plain = await read(`${header}\n${row}\n`)
for (const [what, content, name] of [
  ['gzip', gzipSync(`${header}\n${row}\n`), 'orders.csv.gz'],
  ['a byte order mark', `\uFEFF${header}\n${row}\n`],
  ['CRLF', `${header}\r\n${row}\r\n`],
  ['no line end at the end', `${header}\n${row}`],
  [
    "the original's way to write dates and customers",
    `${header}\n${row.replace('2010-12-01 08:26:00', '12/1/2010 8:26').replace('17850.0', '17850')}\n`,
  ],
  ['quoted fields', `${header}\n${row.replaceAll(/[^,]+/g, '"$&"')}\n`],
] as const) {
  test(`${what} changes nothing`, async () => {
    assert.deepEqual(await read(content, name), plain)
  })
}

test('a description keeps quotes, commas, line ends and pound signs', async () => {
  const [first, second] = await read(
    `${header}\n1,a,"FRAME 7"" ""SINGLE"", \nBLACK",1,2010-12-01 08:26,1,,EIRE\n2,a,Voucher £40.00,1,2010-12-01 08:26,1,,EIRE\n`,
  )
  assert.equal(first?.[0].description, 'FRAME 7" "SINGLE", \nBLACK')
  assert.equal(second?.[0].description, 'Voucher £40.00')
  assert.equal(second?.[0].lineNumber, 4)
})

test('a customer may be missing', async () => {
  assert.equal((await read(`${header}\n${row.replace('17850.0', '')}\n`))[0]![0].customer, undefined)
})

test('rows of one invoice belong together, also with other rows between them', async () => {
  const rows = ['1,a', '1,b', '2,c', '1,d', '3,e', '2,f', '2,f'].map(
    (start) => `${start},,1,2010-12-01 08:26:00,1,,EIRE`,
  )
  const invoices = await read([header, ...rows].join('\n'))
  assert.deepEqual(
    invoices.map((rows) => rows.map(({ invoice, stockCode }) => invoice + stockCode).join(' ')),
    ['1a 1b 1d', '3e', '2c 2f 2f'],
  )
})

for (const [what, content, message] of [
  ['an empty file', '', /line 1: the file is empty/],
  ['another header', 'Invoice,StockCode\n', /line 1: the header must be InvoiceNo,.*, not Invoice,StockCode/],
  ['a field too few', `${header}\n${row}\n1,2,3\n`, /orders\.csv, line 3: a row has 8 fields, not 3/],
  ['a field too many', `${header}\n${row},more\n`, /line 2: a row has 8 fields, not 9/],
  ['a quote that does not end', `${header}\n${row}\n1,"a`, /line 3: Quote Not Closed/],
  ['a stray quote', `${header}\n1,a"b,`, /line 2: Invalid Opening Quote/],
  [
    'a quantity that is not whole',
    `${header}\n${row.replace(',6,', ',6.5,')}\n`,
    /line 2: Quantity cannot be "6.5"/,
  ],
  [
    'a price with too many decimals',
    `${header}\n${row.replace('2.55', '2.5555')}\n`,
    /UnitPrice cannot be "2.5555"/,
  ],
  [
    'a day that does not exist',
    `${header}\n${row.replace('12-01', '02-30')}\n`,
    /InvoiceDate cannot be "2010-02-30/,
  ],
  ['an hour that does not exist', `${header}\n${row.replace('08:26', '24:00')}\n`, /InvoiceDate cannot be/],
  ['no invoice number', `${header}\n${row.replace('536365', '')}\n`, /InvoiceNo cannot be ""/],
  ['no stock code', `${header}\n${row.replace('85123A', '')}\n`, /StockCode cannot be ""/],
  ['no country', `${header}\n${row.replace('United Kingdom', '')}\n`, /Country cannot be ""/],
  [
    'a customer that is not a number',
    `${header}\n${row.replace('17850.0', 'Ann')}\n`,
    /CustomerID cannot be "Ann"/,
  ],
  ['another encoding', Buffer.from(`${header}\n${row.replace('LIGHT', '£')}\n`, 'latin1'), /not UTF-8/],
] as const) {
  test(`${what} is refused, with its position`, async () => {
    await assert.rejects(read(content), (error) => {
      assert.ok(error instanceof HenceError)
      assert.equal(error.code, 'csv-invalid')
      assert.match(error.message, message)
      return true
    })
  })
}

test('a missing file is refused by name', async () => {
  await assert.rejects(openInvoices(join(directory, 'none.csv')), /none\.csv: ENOENT/)
})

test('a gzip file that was cut off is refused', async () => {
  const whole = gzipSync(`${header}\n${`${row}\n`.repeat(1_000)}`)
  await assert.rejects(read(whole.subarray(0, -20), 'cut.csv.gz'), { code: 'csv-invalid' })
})
