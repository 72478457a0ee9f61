import { HenceError, operatorError } from '../failure.ts'
import { type ControlFact, factOf } from './control-history.ts'
import { type Log, recordsOfKind } from './log.ts'
import { everyPartition } from './partitions.ts'
import { type ControlRecord, decodeRecord, encodeControl, isControl } from './record.ts'

interface FoundControls {
  readonly facts: readonly ControlFact[]
  /** The last one, if a process ended before it was in all partitions; and the partitions that lack it. */
  readonly unfinished: { readonly record: ControlRecord; readonly missing: readonly number[] } | undefined
}

/** Finds control records from some positions on, by default all, without decoding other records. */
export async function findControls(
  log: Log,
  from: readonly number[] = everyPartition(log).map(() => 0),
): Promise<FoundControls> {
  const byNumber = new Map<number, { record: ControlRecord; positions: { offset: number; time: number }[] }>()
  for (const [partition, start] of from.entries()) {
    if (start >= (await log.end(partition))) continue
    for await (const batch of log.read(partition, start)) {
      for (const [offset, bytes] of recordsOfKind(batch, isControl)) {
        if (offset < start) continue
        const record = decodeRecord(bytes) as ControlRecord
        const { number } = record.control
        const known = byNumber.get(number) ?? { record, positions: [] }
        known.positions[partition] ??= { offset, time: batch.time }
        byNumber.set(number, known)
      }
    }
  }
  const facts: ControlFact[] = []
  for (const [, { record, positions }] of [...byNumber].sort(([a], [b]) => a - b)) {
    const missing = from.flatMap((_, partition) => (positions[partition] ? [] : [partition]))
    if (missing.length > 0) return { facts, unfinished: { record, missing } }
    facts.push(factOf(record.generation, record.control, positions))
  }
  return { facts, unfinished: undefined }
}

/**
 * Writes a control record to partitions in which nothing is under way.
 * @throws HenceError `log-write-failed` (retry): it is in none of them; `control-unfinished` (operator): it
 *   is in some, and must be written to the others before anything else is
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
      throw operatorError(
        'control-unfinished',
        `A change of code or generation is in ${i} of ${partitions.length} partitions, and could not be ` +
          `written to partition ${partition}: ${error.message} The next start finishes it.`,
        { cause: error },
      )
    }
  }
}

const triesMax = 5

/** Appends a record exactly once: after a failed write it checks whether the record is there. */
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
