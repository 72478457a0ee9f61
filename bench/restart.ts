import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import { type Bench, median, type Result } from './result.ts'
import { submitUntilKilled } from './submit-until-killed.ts'

/** The time of the goal without the tail; the tail adds to it, so this judges more strictly. */
export const readySecondsGoal = 1

/** Ready again after `kill -9` in the midst of requests, with a log that grows from round to round. */
export async function restart({ directory, quick, progress }: Bench): Promise<Result[]> {
  const rounds = quick ? 2 : 5
  const step = quick ? 40_000 : 100_000
  const data = join(directory, 'restart')
  await mkdir(data)
  const openings: Opening[] = []
  for (let i = 1; i <= rounds; i++) {
    await submitUntilKilled(data, step)
    const opening = await runBench<Opening>('opening-process.ts', [data])
    openings.push(opening)
    progress(`restart: kill ${i} of ${rounds}: ${describe(opening)}`)
  }
  return [
    {
      what: 'ready after kill -9',
      figure: median(openings.map(({ readySeconds }) => readySeconds)),
      unit: 's',
      ...judge(openings),
    },
  ]
}

/** What the result of some openings after a kill says of them. */
export function judge(openings: readonly Opening[]): Pick<Result, 'goal' | 'note'> {
  const worst = openings.reduce((a, b) => (b.readySeconds > a.readySeconds ? b : a))
  return {
    goal: { text: `≤ ${readySecondsGoal} s + tail`, met: worst.readySeconds <= readySecondsGoal },
    note: `from the start of the process; ${openings.length > 1 ? 'slowest: ' : ''}${describe(worst)}`,
  }
}

function describe({ readySeconds, openSeconds, records, replayed }: Opening): string {
  return (
    `${readySeconds.toFixed(2)} s (${openSeconds.toFixed(2)} s in createEngine) with ${records} records, ` +
    `${replayed} of them since the last checkpoint`
  )
}
