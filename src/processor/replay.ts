import { type HenceError, operatorError } from '../failure.ts'
import type { Batch, Log } from '../log/log.ts'
import { MergeByTime, type MergeSource, type PartitionCursor } from '../log/merge-by-time.ts'
import { type ControlRecord, decodeRecord, eventIn, type LogRecord } from '../log/record.ts'
import { type DerivedAt, type Interrupted, Interruption } from '../sandbox/timed.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import type { Applied } from './applied.ts'
import { applyGroup, cannotDerive } from './limits.ts'
import type { Processor } from './processor.ts'

/** A generation whose records are replayed. Its processor is replaced when its code changes. */
export interface Replayed {
  readonly processor: Processor
  /** How long one derivation may take, in milliseconds. */
  readonly derivationMs: number
  /** Loads the code that is in force after a control record. */
  followCode(): Promise<void>
}

export interface ReplayOptions {
  /** The partitions to replay; default: all. */
  readonly partitions?: readonly number[]
  /** By partition: the offset to stop at; default: the end of the log. */
  readonly ends?: readonly number[] | undefined
  /**
   * No record from the ends on has an earlier log time, in milliseconds since 1970; nothing after this time
   * is applied. Default: there are no records from the ends on.
   */
  readonly frontier?: number | undefined
  /** Whether causes may come later: then the replay ends before events that wait for one. Default false. */
  readonly grows?: boolean
  /** The most records applied between two pauses; default: a batch of the log. */
  readonly atOnce?: number
  /** Called between batches with the number of records applied, to save. `stop` ends the replay. */
  readonly pause: (applied: number) => Promise<unknown> | undefined
  /** Called with the results of each record and message that is applied, except control records. */
  readonly applied?: (applied: Applied) => void
  /** By partition: it need not be called for records below this offset. */
  readonly appliedFrom?: readonly number[]
  /** By default a group of records may take as long as one derivation, and the error is then a HenceError. */
  readonly limits?: ReplayLimits
}

export interface ReplayLimits {
  /** How long a group that begins with this record may take, in milliseconds. */
  readonly groupMs: (partition: number, offset: number) => number
  /** Derive one record at a time, from some offsets on, each under its own limit. */
  readonly apart?: {
    /** By partition. */
    readonly from: readonly number[]
    /** Called before a record, and before each derivation of the app's code. A throw ends the replay. */
    readonly begins?: (at: DerivedAt, derivation?: Interrupted) => void
    /** How long a record may take, with all that is derived with it, in milliseconds. */
    readonly recordMs: (partition: number, offset: number) => number
    /** How long the messages may take that are applied together between two records, in milliseconds. */
    readonly dueMs: () => number
    /** Called with the time of the longest derivation of a record, before its results are passed on. */
    readonly derived: (partition: number, offset: number, ms: number) => Promise<void> | undefined
  }
}

/**
 * Applies the records of the log from the processor's positions on. Partitions advance side by side by log
 * time, an event waits for its cause, and a control record is applied after everything that stands before it
 * in any partition. So the result is the same as the first time.
 *
 * A generation that is not live applies its own events at the positions of the live generation's events, so
 * it must know these ahead; see `DerivedEventOrder`.
 *
 * @returns how many records were applied
 * @throws Interruption if a derivation exceeds a limit, or the stack
 * @throws HenceError any error of reading the log and of applying its records, and `log-shorter-than-state`
 *   (operator) if the log ends before a position
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
  } catch (error) {
    if (!(error instanceof Interruption)) throw error
    // At once: a checkpoint must not save half a record while the log is being closed.
    replayed.processor.abandon()
    if (options.limits !== undefined) throw error
    throw cannotDerive(
      error,
      replayed.processor.isLive
        ? 'Start an engine with this code, which rules on the record.'
        : 'Derive it as a candidate of an engine, which rules on the record.',
    )
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
  const { partitions, frontier = Number.POSITIVE_INFINITY, pause } = options
  const { limits = { groupMs: () => replayed.derivationMs } } = options
  const { apart } = limits
  const isWhole = (partitions?.length ?? log.partitions) === log.partitions
  let applied = 0
  const searchRulings = async ({ processor }: Replayed) => {
    for (const [partition, end] of ends.entries()) {
      // The list is sparse if not all partitions are replayed. A ruling may stand behind the end.
      if (end === undefined) continue
      const to = await log.end(partition)
      await processor.rulings.search(log, partition, processor.position(partition), to)
    }
  }
  await searchRulings(replayed)
  if (isWhole && !replayed.processor.isLive) {
    if ((await noteAhead(log, replayed.processor, ends, pause)) === 'stop') return applied
  }
  while (merge.cursors.length > 0) {
    const { processor } = replayed
    const { time } = merge.cursors[0]!
    applied += await applyDue(processor, Math.min(time, frontier), limits, options)
    if (time > frontier) return applied
    let passOn: (() => Promise<void>) | undefined
    const take = async (cursor: PartitionCursor) => {
      if (apart === undefined || cursor.offset < apart.from[cursor.partition]!)
        return applyFrom(cursor, processor, limits, options)
      const one = await applyApart(cursor, processor, options, apart)
      passOn = one.passOn
      return one.taken
    }
    const taken = await merge.advance(take, frontier)
    await passOn?.()
    applied += taken
    if (taken === 0) {
      if (merge.cursors.some((cursor) => cursor.time > frontier)) return applied
      const control = controlOf(merge.cursors, processor)
      if (control === undefined && options.grows) return applied
      if (control === undefined) throw stuck(merge.cursors)
      // The other partitions do not have the control record yet, so the replay ends before it.
      if (!isWhole || merge.cursors.length < log.partitions) return applied
      await applyDue(processor, Number.POSITIVE_INFINITY, limits, options)
      const inOrder = merge.cursors.toSorted((a, b) => a.partition - b.partition)
      const wasLive = processor.isLive
      processor.applyControl(
        control,
        inOrder.map(({ offset, time }) => ({ offset, time })),
      )
      applied += inOrder.length
      await merge.skipAll()
      if (wasLive && !processor.isLive) await noteAhead(log, processor, ends)
      await replayed.followCode()
      if (replayed.processor !== processor) await searchRulings(replayed)
      continue
    }
    const paused = pause(applied)
    if (paused && (await paused) === 'stop') return applied
  }
  return applied + (await applyDue(replayed.processor, frontier, limits, options))
}

/** How many messages between two records are applied under one limit; apart, a round of them. */
const dueMax = 16

/** Applies the messages that have no place in the log and come before a time. @returns how many */
async function applyDue(
  processor: Processor,
  before: number,
  { groupMs, apart }: ReplayLimits,
  { applied }: ReplayOptions,
): Promise<number> {
  let count = 0
  while (processor.isDue(before)) {
    const results: Applied[] = []
    const act = () => {
      count += processor.applyDue(before, (each) => results.push(each), apart ? 1 : dueMax)
    }
    if (apart) processor.watch(true, apart.begins)
    const ms = apart ? apart.dueMs() : Math.max(...processor.positions.map((next, i) => groupMs(i, next)))
    if ((await withinLimit(ms, act)) === undefined) throw processor.interruption()
    processor.watch(false)
    if (applied !== undefined) for (const each of results) applied(each)
  }
  return count
}

/** Applies records to the end of the batch at most, a new control record, or an event before its cause. */
async function applyFrom(
  cursor: PartitionCursor,
  processor: Processor,
  limits: ReplayLimits,
  { atOnce = Number.POSITIVE_INFINITY, applied, appliedFrom }: ReplayOptions,
): Promise<number> {
  const { partition, batch, offset: from, available } = cursor
  const keptFrom = applied === undefined ? Number.POSITIVE_INFINITY : (appliedFrom?.[partition] ?? 0)
  const apartFrom = limits.apart?.from[partition] ?? Number.POSITIVE_INFINITY
  const count = Math.min(available, atOnce, apartFrom - from)
  const results: Applied[] = []
  let taken = 0
  const apply = (index: number) => {
    const result = applyNext(processor, partition, from + index, batch)
    if (result !== undefined && result !== 'passed' && from + index >= keptFrom) results.push(result)
    return result !== undefined
  }
  try {
    taken = await applyGroup(processor, count, limits.groupMs(partition, from), apply)
    if (batch.before && taken > 0)
      processor.derivedFrom(partition, { offset: batch.offset, hash: batch.before })
  } catch (error) {
    // After an interruption these records are derived again.
    if (!(error instanceof Interruption)) for (const result of results) applied!(result)
    throw error
  }
  for (const result of results) applied!(result)
  return taken
}

/** Applies one record under its own limit. */
async function applyApart(
  cursor: PartitionCursor,
  processor: Processor,
  { applied }: ReplayOptions,
  { begins, recordMs, derived }: NonNullable<ReplayLimits['apart']>,
): Promise<{ taken: number; passOn?: () => Promise<void> }> {
  const { partition, batch, offset } = cursor
  begins?.({ partition, offset })
  processor.watch(true, begins)
  const results: ReturnType<typeof applyNext>[] = []
  const act = () => results.push(applyNext(processor, partition, offset, batch))
  if ((await withinLimit(recordMs(partition, offset), act)) === undefined) throw processor.interruption()
  processor.watch(false)
  const [result] = results
  if (batch.before && result !== undefined)
    processor.derivedFrom(partition, { offset: batch.offset, hash: batch.before })
  if (result === undefined) return { taken: 0 }
  if (result === 'passed') return { taken: 1 }
  const { longestMs } = processor
  return {
    taken: 1,
    async passOn() {
      await derived(partition, offset, longestMs)
      applied?.(result)
    },
  }
}

/** Applies one record; undefined if it must wait: a new control record, or an event before its cause. */
function applyNext(
  processor: Processor,
  partition: number,
  offset: number,
  { offset: first, time, records }: Batch,
): Applied | 'passed' | undefined {
  const record = decodeRecord(records[offset - first]!)
  if (record.kind !== 'control') {
    const results = processor.apply(partition, offset, time, record)
    return results === 'early' ? undefined : results
  }
  if (record.control.number >= processor.history.length) return undefined
  processor.passControl(partition, offset, time)
  return 'passed'
}

/** The control record that comes next in all partitions; undefined if another record comes next in one. */
function controlOf(cursors: readonly PartitionCursor[], processor: Processor): ControlRecord | undefined {
  const records = cursors.map(({ record }) => decodeRecord(record))
  const isNew = (record: LogRecord) =>
    record.kind === 'control' && record.control.number >= processor.history.length
  return records.every(isNew) ? (records[0] as ControlRecord) : undefined
}

/** Reads ahead and notes the events of other generations, before any of them is applied. */
async function noteAhead(
  log: Log,
  processor: Processor,
  ends: readonly number[],
  pause: ReplayOptions['pause'] = () => undefined,
): Promise<'stop' | undefined> {
  for (const [partition, to] of ends.entries()) {
    const from = processor.position(partition)
    if (from >= to) continue
    for await (const { offset, records } of log.read(partition, from)) {
      for (const [i, record] of records.entries()) {
        if (offset + i < from || offset + i >= to) continue
        const event = eventIn(record)
        if (event !== undefined) processor.noteAhead(partition, event)
      }
      if (offset + records.length >= to) break
      const paused = pause(0)
      if (paused && (await paused) === 'stop') return 'stop'
    }
  }
  return undefined
}

function shorter(partition: number, end: number, position: number): HenceError {
  return operatorError(
    'log-shorter-than-state',
    `Partition ${partition} of the log ends at offset ${end}, but the tables were derived from ${position} records. ` +
      'Part of the log is gone: put it back from a copy.',
  )
}

function stuck(cursors: readonly PartitionCursor[]): HenceError {
  const where = cursors.map(({ partition, batch }) => `partition ${partition} near offset ${batch.offset}`)
  return operatorError(
    'divergence',
    `Events in the log wait for a cause that never comes: ${where.join(', ')}. The log is damaged.`,
  )
}
