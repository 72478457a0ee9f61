import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import { judge } from './restart.ts'
import { type Bench, median, type Result } from './result.ts'
import { submitUntilKilled } from './submit-until-killed.ts'
import type { Progress } from './submitting-process.ts'

const throughputGoal = 0.9
const memoryGoal = 1.1

/** Throughput and memory as the log grows by millions of records, and the restart after a kill with them. */
export async function growth({ directory, progress }: Bench, millions: number): Promise<Result[]> {
  const data = join(directory, 'growth')
  await mkdir(data)
  const end = millions * 1_000_000
  const seen = await submitUntilKilled(data, end, (now, before) => {
    if (now.answered % 500_000 === 0) progress(`growth: ${describe(now, before)}`)
  })
  const opening = await runBench<Opening>('opening-process.ts', [data])

  const early = rate(seen, 100_000, 500_000)
  const late = rate(seen, end - 400_000, end)
  const memory = (from: number, to: number, of: (now: Progress) => number) =>
    median(seen.filter(({ answered }) => answered > from && answered <= to).map(of))
  const resident = ({ residentBytes }: Progress) => residentBytes / 2 ** 20
  const anonymous = ({ anonymousBytes }: Progress) => (anonymousBytes ?? Number.NaN) / 2 ** 20
  const first = memory(500_000, 1_000_000, resident)
  const last = memory(end - 500_000, end, resident)
  const anonymousGrowth = memory(end - 500_000, end, anonymous) / memory(500_000, 1_000_000, anonymous)
  return [
    { what: 'engine.submit from 100 to 500 thousand records', figure: early, unit: 'requests/s' },
    {
      what: `engine.submit up to ${millions} million records`,
      figure: late,
      unit: 'requests/s',
      goal: { text: `≥ ${throughputGoal} of that`, met: late / early >= throughputGoal },
      note: `${(late / early).toFixed(2)} of that at the beginning`,
    },
    { what: 'resident memory at 1 million requests', figure: first, unit: 'MiB' },
    {
      what: `resident memory at ${millions} million requests`,
      figure: last,
      unit: 'MiB',
      goal: { text: '≤ 10 % more', met: last / first <= memoryGoal },
      note: `${(last / first).toFixed(2)} of that; without mapped files ${anonymousGrowth.toFixed(2)}`,
    },
    {
      what: `ready after kill -9 with ${millions} million records`,
      figure: opening.readySeconds,
      unit: 's',
      ...judge([opening]),
    },
  ]
}

/** Requests a second between two counts of them. */
function rate(seen: readonly Progress[], from: number, to: number): number {
  const a = seen.find(({ answered }) => answered >= from)!
  const b = seen.find(({ answered }) => answered >= to)!
  return (b.answered - a.answered) / (b.seconds - a.seconds)
}

function describe(now: Progress, before: readonly Progress[]): string {
  const earlier = before.findLast(({ answered }) => answered <= now.answered - 400_000) ?? before[0]!
  const perSecond = (now.answered - earlier.answered) / (now.seconds - earlier.seconds)
  return (
    `${now.answered / 1_000_000} million, ${Math.round(perSecond)}/s of late, ` +
    `${Math.round(now.residentBytes / 2 ** 20)} MiB resident`
  )
}
