import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { medianProcessor, summary } from './drive.ts'
import { runBench } from './process.ts'
import { type Bench, median, type Result } from './result.ts'
import type { ViewsBuilt } from './views-process.ts'

/** A view that is built over a log, beside an idle engine and beside one that takes requests. */
export async function views({ directory, sized, progress }: Bench): Promise<Result[]> {
  const count = sized(300_000, 60_000, 2_000)
  const data = join(directory, 'views')
  await mkdir(data, { mode: 0o700 })
  progress(`views: making a log of ${count} requests`)
  await runBench('submitting-process.ts', [data, String(count)])
  progress('views: built, and requests beside it')
  const given = [data, String(sized(5, 2, 1)), String(sized(30_000, 10_000, 300))]
  const { built, rows, bytesPerRow, alone, beside, foldedPerSecond } = await runBench<ViewsBuilt>(
    'views-process.ts',
    given,
  )
  const [without, during] = [alone, beside].map((runs) =>
    summary(runs.map((run) => ({ ...run, latencies: Float64Array.from(run.latencies) }))),
  ) as [Omit<Result, 'what'>, Omit<Result, 'what'>]
  const folded = Math.round(median(foldedPerSecond)).toLocaleString('en-US')
  return [
    {
      what: 'a view built over a log beside an idle engine',
      figure: median(built.map(({ perSecond }) => perSecond)),
      unit: 'records/s',
      ...medianProcessor(built),
      note: `${rows.toLocaleString('en-US')} rows, ${Math.round(bytesPerRow)} bytes each on the disk`,
    },
    { what: 'submit, 64 in flight, without a view', ...without },
    {
      what: 'submit, 64 in flight, while a view is built',
      ...during,
      note:
        `p99 ${(during.p99! / without.p99!).toFixed(2)} × that without; meanwhile ${folded} records/s ` +
        'were folded',
    },
  ]
}
