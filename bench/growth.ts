import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import { readyLines } from './restart.ts'
import { type Bench, median, type Result } from './result.ts'
import { submitUntilKilled } from './submit-until-killed.ts'
import type { Progress } from './submitting-process.ts'

/**
 * Throughput and memory while the log grows by millions of records, and the restart after a kill. A tiny run
 * has tiny millions.
 */
export async function growth(
  { directory, sized, progress, plot }: Bench,
  millions: number,
): Promise<Result[]> {
  const million = sized(1_000_000, 1_000_000, 5_000)
  const every = million / 50
  const data = join(directory, 'growth')
  await mkdir(data, { mode: 0o700 })
  const end = millions * million
  const reports = await submitUntilKilled(data, end, every, (now, before) => {
    if (now.answered % (million / 2) === 0) progress(`growth: ${describe(now, before, million)}`)
  })
  const opening = await runBench<Opening>('opening-process.ts', [data])

  const early = rate(reports, million / 10, million / 2)
  const late = rate(reports, end - 0.4 * million, end)
  const memory = (from: number, to: number, of: (now: Progress) => number) =>
    median(reports.filter(({ answered }) => answered > from && answered <= to).map(of))
  const resident = ({ residentBytes }: Progress) => residentBytes / 2 ** 20
  const anonymous = ({ anonymousBytes }: Progress) => (anonymousBytes ?? Number.NaN) / 2 ** 20
  const lines = [
    ['resident', resident],
    ['anonymous', anonymous],
  ] as const
  plot('growth', {
    title: `Cost against the length of the log, up to ${(end / 1e6).toLocaleString('en-US')} million records`,
    x: { label: 'records' },
    y: { label: 'µs of processor a request · MiB', log: true },
    series: [
      { name: 'µs of processor a request', points: costs(reports) },
      ...lines.map(([name, of]) => ({
        name: `MiB ${name}`,
        points: reports.map((each) => [each.answered, of(each)] as const),
      })),
    ],
  })
  const numeral = (count: number) => count.toLocaleString('en-US')
  return [
    {
      ...early,
      what: `engine.submit from ${numeral(million / 10)} to ${numeral(million / 2)} records`,
    },
    {
      ...late,
      what: `engine.submit up to ${numeral(end)} records`,
      ratio: late.figure / early.figure,
      note: 'the ratio is to the beginning, or to a million requests',
    },
    ...lines.flatMap(([name, of]): Result[] => {
      const [first, last] = [memory(million / 2, million, of), memory(end - million / 2, end, of)]
      return [
        { what: `${name} memory at ${numeral(million)} requests`, figure: first, unit: 'MiB' },
        {
          what: `${name} memory at ${numeral(end)} requests`,
          figure: last,
          unit: 'MiB',
          ratio: last / first,
        },
      ]
    }),
    ...readyLines(`ready after kill -9 with ${numeral(end)} records`, [opening]),
  ]
}

/** The processor time a request, between each two reports. */
function costs(reports: readonly Progress[]): (readonly [number, number])[] {
  return reports.slice(1).map((now, i) => {
    const { answered, processorMicros } = reports[i]!
    return [now.answered, (now.processorMicros - processorMicros) / (now.answered - answered)]
  })
}

/** Requests per second between two numbers of requests. */
function rate(
  reports: readonly Progress[],
  from: number,
  to: number,
): Pick<Result, 'figure' | 'unit' | 'processorMicros'> {
  const a = reports.find(({ answered }) => answered >= from)!
  const b = reports.find(({ answered }) => answered >= to)!
  const count = b.answered - a.answered
  return {
    figure: count / (b.seconds - a.seconds),
    unit: 'requests/s',
    processorMicros: (b.processorMicros - a.processorMicros) / count,
  }
}

function describe(now: Progress, before: readonly Progress[], million: number): string {
  const earlier = before.findLast(({ answered }) => answered <= now.answered - 0.4 * million) ?? before[0]!
  const perSecond = (now.answered - earlier.answered) / (now.seconds - earlier.seconds)
  return (
    `${now.answered} requests, ${Math.round(perSecond)}/s recently, ` +
    `${Math.round(now.residentBytes / 2 ** 20)} MiB resident`
  )
}
