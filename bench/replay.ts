import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import type { Reading } from './reading-process.ts'
import { type Bench, median, type Result } from './result.ts'

const goal = 500_000

/** All tables derived anew from the log, against a reading of the same log that derives nothing. */
export async function replay({ directory, quick, progress }: Bench): Promise<Result[]> {
  const count = quick ? 100_000 : 500_000
  const rounds = quick ? 2 : 5
  const data = join(directory, 'replay')
  await mkdir(data)
  progress(`replay: making a log of ${count} records`)
  await runBench('submitting-process.ts', [data, String(count)])

  const idle: Opening[] = []
  const full: Opening[] = []
  const readings: Reading[] = []
  for (let i = 1; i <= rounds; i++) {
    const reading = await runBench<Reading>('reading-process.ts', [data])
    const nothing = await runBench<Opening>('opening-process.ts', [data])
    await rm(join(data, 'state'), { recursive: true })
    const all = await runBench<Opening>('opening-process.ts', [data])
    if (nothing.replayed !== 0 || all.replayed !== count || reading.records !== count) {
      throw new Error(`Of ${count} records ${all.replayed} were replayed and ${reading.records} read.`)
    }
    progress(
      `replay: round ${i} of ${rounds}: opened with nothing to replay in ${nothing.openSeconds.toFixed(2)} s, ` +
        `with all in ${all.openSeconds.toFixed(2)} s, read alone in ${reading.seconds.toFixed(2)} s`,
    )
    readings.push(reading)
    idle.push(nothing)
    full.push(all)
  }
  const opening = median(idle.map(({ openSeconds }) => openSeconds))
  const reading = count / median(readings.map(({ seconds }) => seconds))
  const replaying = count / (median(full.map(({ openSeconds }) => openSeconds)) - opening)
  return [
    { what: 'reading the log, deriving nothing', figure: reading, unit: 'records/s' },
    {
      what: 'replay of all records',
      figure: replaying,
      unit: 'records/s',
      goal: { text: `≥ ${goal}/s`, met: replaying >= goal },
      note: `${count} records; ${(replaying / reading).toFixed(2)} of reading alone; opening (${opening.toFixed(2)} s) taken off`,
    },
    {
      what: 'resident memory of that replay, at most',
      figure: median(full.map(({ residentBytesMax }) => residentBytesMax)) / 2 ** 20,
      unit: 'MiB',
    },
  ]
}
