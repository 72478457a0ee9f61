import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import { type Bench, median, type Result } from './result.ts'
import { submitUntilKilled } from './submit-until-killed.ts'

/**
 * The time until an engine is ready again after `kill -9` under load, with a log that grows from round to
 * round.
 */
export async function restart({ directory, sized, progress }: Bench): Promise<Result[]> {
  const rounds = sized(5, 2, 1)
  const step = sized(100_000, 40_000, 2_000)
  const every = sized(20_000, 20_000, 500)
  const data = join(directory, 'restart')
  await mkdir(data, { mode: 0o700 })
  const openings: Opening[] = []
  for (let i = 1; i <= rounds; i++) {
    await submitUntilKilled(data, step, every)
    const opening = await runBench<Opening>('opening-process.ts', [data])
    openings.push(opening)
    progress(`restart: kill ${i} of ${rounds}: ${describe(opening)}`)
  }
  return readyLines('ready after kill -9', openings)
}

/** The time until an engine is ready after a kill, and the part of it that the tail does not take. */
export function readyLines(what: string, openings: readonly Opening[]): Result[] {
  return [
    {
      what,
      figure: median(openings.map(({ readySeconds }) => readySeconds)),
      unit: 's',
      note: noteOn(openings),
    },
    {
      what: `${what}: all but the tail`,
      figure: median(openings.map(({ readySeconds, tailSeconds }) => readySeconds - tailSeconds)),
      unit: 's',
    },
  ]
}

/** The slowest of some openings after a kill. */
function noteOn(openings: readonly Opening[]): string {
  const worst = openings.reduce((a, b) => (b.readySeconds > a.readySeconds ? b : a))
  return `from the start of the process; ${openings.length > 1 ? 'slowest: ' : ''}${describe(worst)}`
}

function describe({ readySeconds, openSeconds, tailSeconds, records, replayed }: Opening): string {
  return (
    `${readySeconds.toFixed(2)} s (${openSeconds.toFixed(2)} s in createEngine) with ${records} records, ` +
    `${replayed} of them, the tail, since the last checkpoint: ${tailSeconds.toFixed(2)} s`
  )
}
