import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { medianProcessor } from './drive.ts'
import type { Opening } from './opening-process.ts'
import { runBench } from './process.ts'
import type { Reading } from './reading-process.ts'
import { type Bench, median, type Result } from './result.ts'

/** Deriving all tables from the log again, against only reading the same log. */
export async function replay({ directory, sized, progress }: Bench): Promise<Result[]> {
  const count = sized(500_000, 100_000, 2_000)
  const rounds = sized(5, 2, 1)
  const data = join(directory, 'replay')
  await mkdir(data, { mode: 0o700 })
  progress(`replay: making a log of ${count} requests`)
  await runBench('submitting-process.ts', [data, String(count)])

  const idle: Opening[] = []
  const full: Opening[] = []
  const readings: Reading[] = []
  for (let i = 1; i <= rounds; i++) {
    const reading = await runBench<Reading>('reading-process.ts', [data])
    const nothing = await runBench<Opening>('opening-process.ts', [data])
    await rm(join(data, 'state'), { recursive: true })
    const all = await runBench<Opening>('opening-process.ts', [data])
    // The log also holds records that the engine wrote, for example that of the code's version.
    if (reading.requests !== count) {
      throw new Error(`The log holds ${reading.requests} of ${count} requests.`)
    }
    if (nothing.replayed !== 0 || all.replayed !== reading.records) {
      throw new Error(
        `Of ${reading.records} records ${all.replayed} were replayed, and ${nothing.replayed} of those that were saved.`,
      )
    }
    progress(
      `replay: round ${i} of ${rounds}: opened with nothing to replay in ${nothing.openSeconds.toFixed(2)} s, ` +
        `with everything in ${all.openSeconds.toFixed(2)} s, only read in ${reading.seconds.toFixed(2)} s`,
    )
    readings.push(reading)
    idle.push(nothing)
    full.push(all)
  }
  const { records } = readings[0]!
  const opening = median(idle.map(({ openSeconds }) => openSeconds))
  const openingMicros = median(idle.map(({ processorMicros }) => processorMicros))
  const reading = records / median(readings.map(({ seconds }) => seconds))
  // It reads the log too. So it is no shorter than that, however long the openings took beside other work.
  const seconds = Math.max(
    median(full.map(({ openSeconds }) => openSeconds)) - opening,
    median(readings.map(({ seconds }) => seconds)),
  )
  const replaying = records / seconds
  const perRecord = (micros: number) => ({ processorMicros: micros / records })
  return [
    {
      what: 'reading the log, deriving nothing',
      figure: reading,
      unit: 'records/s',
      ...medianProcessor(readings.map(({ processorMicros }) => perRecord(processorMicros))),
    },
    {
      what: 'replay of all records',
      figure: replaying,
      unit: 'records/s',
      ...medianProcessor(
        full.map(({ processorMicros }) => perRecord(Math.max(0, processorMicros - openingMicros))),
      ),
      note: `${records} records; ${(replaying / reading).toFixed(2)} of only reading; without the time to open (${opening.toFixed(2)} s)`,
    },
    {
      what: 'peak resident memory of that replay',
      figure: median(full.map(({ residentBytesMax }) => residentBytesMax)) / 2 ** 20,
      unit: 'MiB',
    },
  ]
}
