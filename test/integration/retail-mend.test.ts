import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import { openInvoices } from '../../examples/retail/csv.ts'
import { importAll } from '../../examples/retail/import.ts'
import { requestOf } from '../../examples/retail/invoice.ts'
import { sample } from '../../examples/retail/sample.ts'
import shop, { type Shop } from '../../examples/retail/shop.ts'
import type { Submission } from '../../examples/retail/submission.ts'
import firstShop from '../../examples/retail/v1/shop.ts'
import {
  differingFields,
  type Paper,
  papersOfFile,
  papersOfSample,
  type Wrong,
  wrongBy,
} from './retail-oracle.ts'
import { realOrders } from './retail-process.ts'

const submissions = sample()
const sources: { name: string; papers(): Promise<Paper[]>; submissions(): AsyncIterable<Submission> }[] = [
  {
    name: 'the sample',
    papers: async () => papersOfSample(submissions),
    async *submissions() {
      yield* submissions
    },
  },
]
if (realOrders) {
  const file = realOrders
  sources.push({
    name: 'the real file',
    papers: () => papersOfFile(file),
    async *submissions() {
      for await (const invoice of (await openInvoices(file)).invoices()) yield requestOf(invoice)
    },
  })
}

async function booksOf(app: Shop, submissions: AsyncIterable<Submission>, partitions: number) {
  const engine = await createEngine({ app, data: memoryStorage({ partitions }) })
  await importAll(engine, submissions, { signal: new AbortController().signal, onDecided: () => {} })
  await engine.idle()
  const books = new Map<string, object>()
  for (const table of shop.tables.keys()) {
    for (const { key, value } of await engine.scan(table as 'days')) {
      books.set(`${table} ${key.join(' ')}`, value)
    }
  }
  await engine.close()
  return books
}

for (const { name, papers, submissions } of sources) {
  for (const partitions of [8]) {
    test(`${name} on ${partitions} partitions: the rows of the versions differ in what the papers say`, async (context) => {
      const expected = wrongBy(await papers()).filter(({ name }) => !name.startsWith('outcome '))
      const [before, after] = [
        await booksOf(firstShop, submissions(), partitions),
        await booksOf(shop, submissions(), partitions),
      ]
      const wrong = [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((name) => {
        const fields = differingFields(before.get(name), after.get(name))
        return fields ? [{ name, ...fields } as Wrong] : []
      })
      assert.deepEqual(wrong, expected)
      const counts = Map.groupBy(wrong, ({ name }) => name.split(' ')[0])
      context.diagnostic([...counts].map(([table, { length }]) => `${length} ${table}`).join(', '))
    })
  }
}
