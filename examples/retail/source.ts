import { basename } from 'node:path'
import type { ShopOptions } from './command.ts'
import { openInvoices } from './csv.ts'
import { requestOf } from './invoice.ts'
import { sample } from './sample.ts'
import type { Submission } from './submission.ts'

/** The source of the shop's requests. */
export interface Source {
  readonly name: string
  readonly count: number
  submissions(): Iterable<Submission> | AsyncIterable<Submission>
}

/**
 * @param csv a file of the data set; without it, the sample
 * @param orders how many orders the sample has
 * @throws HenceError `csv-invalid` (change)
 */
export async function openSource({ csv, orders }: Pick<ShopOptions, 'csv' | 'orders'>): Promise<Source> {
  if (csv === undefined) {
    const submissions = sample({ ...(orders !== undefined && { orders }) })
    const name = orders === undefined ? 'sample' : `sample-${orders}`
    return { name, count: submissions.length, submissions: () => submissions }
  }
  const { count, invoices } = await openInvoices(csv)
  return {
    name: basename(csv).replace(/(\.csv)?(\.gz)?$/, ''),
    count,
    async *submissions() {
      for await (const invoice of invoices()) yield requestOf(invoice)
    },
  }
}
