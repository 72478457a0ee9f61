import { HenceError } from '../failure.ts'
import type { Batch, Log } from '../log/log.ts'
import { type ControlRecord, decodeRecord, eventIn, isControl } from '../log/record.ts'
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
  const readers: Reader[] = []
  try {
    return await replayBy(readers, log, replayed, options)
  } finally {
    // Those that have not come to their end hold files open.
    for (const reader of readers) await reader.close()
  }
}

/** @param readers holds those, at any moment, that have not come to their end */
async function replayBy(
  readers: Reader[],
  log: Log,
  replayed: Replayed,
  options: ReplayOptions,
): Promise<number> {
  const {
    partitions = [...replayed.processor.positions.keys()],
    frontier = Number.POSITIVE_INFINITY,
    pause,
  } = options
  let applied = 0
  const ends: number[] = []
  for (const partition of partitions) {
    const position = replayed.processor.position(partition)
    const end = options.ends?.[partition] ?? (await log.end(partition))
    if (end < position) throw shorter(partition, end, position)
    ends[partition] = end
    if (end > position) readers.push(await Reader.open(log, partition, position, end))
  }
  const isWhole = partitions.length === log.partitions
  if (isWhole && !replayed.processor.isLive) {
    if ((await noteAhead(log, replayed.processor, ends, pause)) === 'stop') return applied
  }
  while (readers.length > 0) {
    const { processor } = replayed
    readers.sort((a, b) => a.batch.time - b.batch.time || a.partition - b.partition)
    const time = readers[0]!.batch.time
    if (!processor.isLive) applied += processor.applyDue(Math.min(time, frontier))
    if (time > frontier) return applied
    const before = applied
    for (const [i, reader] of readers.entries()) {
      if (reader.batch.time > frontier) break
      applied += reader.apply(processor, options.atOnce)
      if (applied === before) continue
      if (reader.done && !(await reader.next())) readers.splice(i, 1)
      break
    }
    if (applied === before) {
      if (readers.some(({ batch }) => batch.time > frontier)) return applied
      // What stands before a control record of which the others lack their part is as far as it goes.
      if (readers.every(({ control }) => control)) {
        if (!isWhole || readers.length < log.partitions) return applied
        if (!processor.isLive) processor.applyDue(Number.POSITIVE_INFINITY)
        const places = readers.toSorted((a, b) => a.partition - b.partition).map(({ place }) => place)
        const wasLive = processor.isLive
        processor.applyControl(readers[0]!.control!, places)
        applied += readers.length
        for (const reader of [...readers]) {
          reader.skip()
          if (reader.done && !(await reader.next())) readers.splice(readers.indexOf(reader), 1)
        }
        if (wasLive && !processor.isLive) await noteAhead(log, processor, ends)
        await replayed.followCode()
        continue
      }
      throw stuck(readers)
    }
    const paused = pause(applied)
    if (paused && (await paused) === 'stop') return applied
  }
  if (!replayed.processor.isLive) applied += replayed.processor.applyDue(frontier)
  return applied
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

/** One partition of the log, a batch at a time. */
class Reader {
  readonly partition: number
  readonly #batches: AsyncIterator<Batch>
  readonly #end: number
  batch!: Batch
  /** The control record that it stands at, which all partitions pass together. */
  control: ControlRecord | undefined
  #at = 0

  static async open(log: Log, partition: number, from: number, end: number): Promise<Reader> {
    const reader = new Reader(partition, log.read(partition, from)[Symbol.asyncIterator](), end)
    await reader.next()
    reader.#at = from - reader.batch.offset
    return reader
  }

  private constructor(partition: number, batches: AsyncIterator<Batch>, end: number) {
    this.partition = partition
    this.#batches = batches
    this.#end = end
  }

  get done(): boolean {
    return this.#at >= Math.min(this.batch.records.length, this.#end - this.batch.offset)
  }

  /** Where the next record stands, and its log time. */
  get place(): { readonly offset: number; readonly time: number } {
    return { offset: this.batch.offset + this.#at, time: this.batch.time }
  }

  async next(): Promise<boolean> {
    if (this.batch !== undefined && this.batch.offset + this.#at >= this.#end) {
      await this.close()
      return false
    }
    const { done, value } = await this.#batches.next()
    if (done) return false
    this.batch = value
    this.#at = 0
    return true
  }

  /** Reads no more. */
  async close(): Promise<void> {
    await this.#batches.return?.()
  }

  /** Leaves the control record behind. */
  skip(): void {
    this.control = undefined
    this.#at++
  }

  /** Applies records up to the end of the batch, or up to a control record or an event whose cause is still to come. */
  apply(processor: Processor, atOnce = Number.POSITIVE_INFINITY): number {
    const { offset, time, records } = this.batch
    const from = this.#at
    const end = Math.min(records.length, this.#end - offset, from + atOnce)
    for (; this.#at < end; this.#at++) {
      const at = offset + this.#at
      const bytes = records[this.#at]!
      const record = decodeRecord(bytes)
      if (isControl(bytes)) {
        const control = record as ControlRecord
        if (control.control.number >= processor.history.length) {
          this.control = control
          break
        }
        processor.passControl(this.partition, at, time)
      } else if (processor.apply(this.partition, at, time, record) === 'early') break
    }
    return this.#at - from
  }
}

function shorter(partition: number, end: number, position: number): HenceError {
  return new HenceError(
    'log-shorter-than-state',
    'operator',
    `Partition ${partition} of the log ends at offset ${end}, but the tables were derived from ${position} records. ` +
      'Part of the log is gone: put it back from a copy.',
  )
}

function stuck(readers: readonly Reader[]): HenceError {
  const places = readers.map(({ partition, batch }) => `partition ${partition} near offset ${batch.offset}`)
  return new HenceError(
    'divergence',
    'operator',
    `Events in the log wait for a cause that never comes: ${places.join(', ')}. The log is damaged.`,
  )
}
