import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { realOrders } from '../test/integration/retail-process.ts'
import { runBench } from './process.ts'
import { type Bench, median, type Result } from './result.ts'
import type { Imported } from './shop-process.ts'

/** The shop of the examples imports a file of real orders, or made-up ones where that file is missing. */
export async function shop({ directory, sized, progress, skip }: Bench): Promise<Result[]> {
  const rounds = sized(3, 1, 1)
  // A tiny run has no time for the file.
  const file = sized(realOrders, realOrders, undefined)
  if (realOrders === undefined) {
    skip('the import of the real file', 'it is missing; HENCE_RETAIL_CSV names it. Made-up orders instead.')
  }
  const source = file ?? String(sized(9_000, 3_000, 20))
  const orders = file ? 'real orders' : 'made-up orders'
  const results: Result[] = []
  for (const partitions of [1, 8]) {
    const on = `${orders} on ${partitions} partition${partitions > 1 ? 's' : ''}`
    const runs: Imported[] = []
    for (let round = 1; round <= rounds; round++) {
      const data = join(directory, 'shop')
      await mkdir(data, { mode: 0o700 })
      const run = await runBench<Imported>('shop-process.ts', [data, String(partitions), source])
      await rm(data, { recursive: true })
      runs.push(run)
      progress(
        `shop: ${on}, round ${round} of ${rounds}: ${run.requests} requests in ${run.seconds.toFixed(1)} s`,
      )
    }
    const of = (figure: (run: Imported) => number) => median(runs.map(figure))
    results.push(
      {
        what: `the shop imports ${on}`,
        figure: of(({ requests, seconds }) => requests / seconds),
        unit: 'requests/s',
        processorMicros: of((run) => run.processorMicros),
        threadMicros: of((run) => run.threadMicros),
        note: 'reading or making the orders is in it; an order has about 20 lines, each with a claim and an event',
      },
      {
        what: `everything outside the log, ${on}`,
        figure: of(({ otherBytes, logBytes }) => otherBytes / logBytes),
        unit: '× the log',
        note: `after the engine was closed; on 1 partition the log has ${mebibytes(runs[0]!.logBytes)} MiB`,
      },
      {
        what: `peak anonymous memory of that import, ${on}`,
        figure: of(({ anonymousBytesMax }) => (anonymousBytesMax ?? Number.NaN) / 2 ** 20),
        unit: 'MiB',
      },
    )
  }
  return results
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1)
}
