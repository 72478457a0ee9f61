import { HenceError } from '../failure.ts'
import type { Log } from '../log/log.ts'
import { MergeByTime, type MergeSource, type PartitionCursor } from '../log/merge-by-time.ts'
import { type ControlRecord, decodeRecord, eventIn, type LogRecord } from '../log/record.ts'
import type { Processor } from './processor.ts'

/** What is replayed: the processor is another one after its code has changed. */
export interface Replayed {
  readonly processor: Processor
  /** Sees to it that the code is that which is in force behind a control record. */
  followCode(): Promise<void>
}

export interface ReplayOptions {
  /** The partitions to catch up; all when left out. */
  readonly partitions?: readonly number[]
  /** By partition: where to stop; the end of the log when left out. */
  readonly ends?: readonly number[] | undefined
  /** Every record that is not among those has at least this log time; nothing after it is applied. Default: there are no others. */
  readonly frontier?: number | undefined
  /** How many records are applied between two pauses at most; default: a batch of the log. */
  readonly atOnce?: number
  /** Called between batches with the number of records applied so far; where a checkpoint goes. `stop` ends the replay. */
  readonly pause: (applied: number) => Promise<unknown> | undefined
}

/**
 * Applies what stands in the log behind the processor's positions. Partitions advance side by side by log
 * time, an event waits for its cause, and nothing behind a control record is applied before all that stands before
 * it in any partition, so the result is that of the first time.
 *
 * Of a generation that is not live, the events that stand in the log are those of another one; they only show where its own
 * go. So what the log holds ahead is noted first; see `Placing`.
 *
 * @returns how many records were applied
 * @throws HenceError what reading the log and applying its records throw, and `log-shorter-than-state`
 *   (operator) when the log ends before a position
 */
export async function replay(log: Log, replayed: Replayed, options: ReplayOptions): Promise<number> {
  const { partitions = [...replayed.processor.positions.keys()] } = options
  const ends: number[] = []
  const sources: MergeSource[] = []
  for (const partition of partitions) {
    const from = replayed.processor.position(partition)
    const end = options.ends?.[partition] ?? (await log.end(partition))
    if (end < from) throw shorter(partition, end, from)
    ends[partition] = end
    if (end > from) sources.push({ partition, batches: log.read(partition, from), from, end })
  }
  const merge = await MergeByTime.open(sources)
  try {
    return await replayMerged(merge, log, replayed, ends, options)
  } finally {
    await merge.close()
  }
}

async function replayMerged(
  merge: MergeByTime,
  log: Log,
  replayed: Replayed,
  ends: readonly number[],
  options: ReplayOptions,
): Promise<number> {
  const { partitions, frontier = Number.POSITIVE_INFINITY, atOnce, pause } = options
  const isWhole = (partitions?.length ?? log.partitions) === log.partitions
  let applied = 0
  if (isWhole && !replayed.processor.isLive) {
    if ((await noteAhead(log, replayed.processor, ends, pause)) === 'stop') return applied
  }
  while (merge.cursors.length > 0) {
    const { processor } = replayed
    const { time } = merge.cursors[0]!
    if (!processor.isLive) applied += processor.applyDue(Math.min(time, frontier))
    if (time > frontier) return applied
    const taken = await merge.advance((cursor) => applyFrom(cursor, processor, atOnce), frontier)
    applied += taken
    if (taken === 0) {
      if (merge.cursors.some((cursor) => cursor.time > frontier)) return applied
      const control = controlOf(merge.cursors, processor)
      if (control === undefined) throw stuck(merge.cursors)
      // What stands before a control record of which the others lack their part is as far as it goes.
      if (!isWhole || merge.cursors.length < log.partitions) return applied
      if (!processor.isLive) processor.applyDue(Number.POSITIVE_INFINITY)
      const places = merge.cursors.toSorted((a, b) => a.partition - b.partition)
      const wasLive = processor.isLive
      processor.applyControl(
        control,
        places.map(({ offset, time }) => ({ offset, time })),
      )
      applied += places.length
      await merge.skipAll()
      if (wasLive && !processor.isLive) await noteAhead(log, processor, ends)
      await replayed.followCode()
      continue
    }
    const paused = pause(applied)
    if (paused && (await paused) === 'stop') return applied
  }
  if (!replayed.processor.isLive) applied += replayed.processor.applyDue(frontier)
  return applied
}

/**
 * Applies records up to the end of the batch, or up to a control record or an event whose cause is still to come.
 * @returns how many
 */
function applyFrom(cursor: PartitionCursor, processor: Processor, atOnce = Number.POSITIVE_INFINITY): number {
  const { partition, batch, offset: from, available } = cursor
  const end = from + Math.min(available, atOnce)
  let offset = from
  for (; offset < end; offset++) {
    const bytes = batch.records[offset - batch.offset]!
    const record = decodeRecord(bytes)
    if (record.kind === 'control') {
      if (record.control.number >= processor.history.length) break
      processor.passControl(partition, offset, batch.time)
    } else if (processor.apply(partition, offset, batch.time, record) === 'early') break
  }
  return offset - from
}

/** The control record that all partitions stand before; undefined when one stands before another record. */
function controlOf(cursors: readonly PartitionCursor[], processor: Processor): ControlRecord | undefined {
  const records = cursors.map(({ record }) => decodeRecord(record))
  const isNew = (record: LogRecord) =>
    record.kind === 'control' && record.control.number >= processor.history.length
  return records.every(isNew) ? (records[0] as ControlRecord) : undefined
}

/** Notes the events of other generations that the log holds ahead of the positions, before any of it is applied. */
async function noteAhead(
  log: Log,
  processor: Processor,
  ends: readonly number[],
  pause: ReplayOptions['pause'] = () => undefined,
): Promise<'stop' | undefined> {
  // With one partition every event stays where it was emitted, and stands in no log.
  if (log.partitions === 1) return undefined
  for (const [partition, to] of ends.entries()) {
    const from = processor.position(partition)
    if (from >= to) continue
    for await (const { offset, records } of log.read(partition, from)) {
      for (const [i, record] of records.entries()) {
        if (offset + i < from || offset + i >= to) continue
        const event = eventIn(record)
        if (event !== undefined && event.generation !== processor.generation)
          processor.noteRecorded(partition, event)
      }
      if (offset + records.length >= to) break
      const paused = pause(0)
      if (paused && (await paused) === 'stop') return 'stop'
    }
  }
  return undefined
}

function shorter(partition: number, end: number, position: number): HenceError {
  return new HenceError(
    'log-shorter-than-state',
    'operator',
    `Partition ${partition} of the log ends at offset ${end}, but the tables were derived from ${position} records. ` +
      'Part of the log is gone: put it back from a copy.',
  )
}

function stuck(cursors: readonly PartitionCursor[]): HenceError {
  const places = cursors.map(({ partition, batch }) => `partition ${partition} near offset ${batch.offset}`)
  return new HenceError(
    'divergence',
    'operator',
    `Events in the log wait for a cause that never comes: ${places.join(', ')}. The log is damaged.`,
  )
}
