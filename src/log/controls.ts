import { HenceError } from '../failure.ts'
import { type ControlFact, factOf } from './control-history.ts'
import type { Log } from './log.ts'
import { type ControlRecord, decodeRecord, encodeControl, isControl } from './record.ts'

/** The control records that a log holds from some positions on. */
export interface FoundControls {
  readonly facts: readonly ControlFact[]
  /** The last one, if a process ended before it stood in all partitions, and those that lack it. */
  readonly unfinished: { readonly record: ControlRecord; readonly missing: readonly number[] } | undefined
}

/** Looks for control records, without reading what else there is. */
export async function findControls(log: Log, from: readonly number[]): Promise<FoundControls> {
  const byNumber = new Map<number, { record: ControlRecord; places: { offset: number; time: number }[] }>()
  for (const [partition, position] of from.entries()) {
    if (position >= (await log.end(partition))) continue
    for await (const { offset, time, records } of log.read(partition, position)) {
      for (const [i, bytes] of records.entries()) {
        if (!isControl(bytes) || offset + i < position) continue
        const record = decodeRecord(bytes) as ControlRecord
        const { number } = record.control
        const known = byNumber.get(number) ?? { record, places: [] }
        known.places[partition] ??= { offset: offset + i, time }
        byNumber.set(number, known)
      }
    }
  }
  const facts: ControlFact[] = []
  for (const [, { record, places }] of [...byNumber].sort(([a], [b]) => a - b)) {
    const missing = from.flatMap((_, partition) => (places[partition] ? [] : [partition]))
    if (missing.length > 0) return { facts, unfinished: { record, missing } }
    facts.push(factOf(record.generation, record.control, places))
  }
  return { facts, unfinished: undefined }
}

/**
 * Writes a control record into partitions, in which nothing may be under way. When it throws, it stands in none of them
 * (`log-write-failed`, retry) or must be finished before anything else is written (`control-unfinished`, operator).
 */
export async function appendControl(
  log: Log,
  record: Omit<ControlRecord, 'kind'>,
  partitions: readonly number[],
): Promise<void> {
  const bytes = encodeControl(record)
  for (const [i, partition] of partitions.entries()) {
    try {
      await appendOnce(log, partition, bytes)
    } catch (error) {
      if (i === 0 || !(error instanceof HenceError)) throw error
      throw new HenceError(
        'control-unfinished',
        'operator',
        `A change of code or generation stands in ${i} of ${partitions.length} partitions, and could not be written to partition ${partition}: ${error.message} ` +
          'It is finished at the next start.',
        { cause: error },
      )
    }
  }
}

const triesMax = 5

/** Writes a record that must not stand there yet; after a failed write it looks whether it does. */
async function appendOnce(log: Log, partition: number, bytes: Buffer): Promise<void> {
  const end = await log.end(partition)
  for (let tries = 1; ; tries++) {
    try {
      await log.append(partition, [bytes])
      return
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'retry') throw error
      if ((await log.end(partition)) > end) return
      if (tries === triesMax) throw error
    }
  }
}
