import type { App } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { type ControlFact, factOf, liveOf, versionOf } from '../log/control-history.ts'
import type { Log } from '../log/log.ts'
import { batchesByTime } from '../log/merge-by-time.ts'
import { decodeRecord, type LogRecord } from '../log/record.ts'

/** What a log holds, up to some moment of it. */
export interface Survey {
  readonly records: number
  /** Of the records themselves. */
  readonly bytes: number
  /** Log time of the last record, in milliseconds since 1970; 0 without one. */
  readonly until: number
  /** The offset that each partition was read up to. */
  readonly ends: readonly number[]
  /** Whether the log goes on behind it. */
  readonly isPart: boolean
  /** Requests and events, by type and version, in order. */
  readonly messages: readonly MessageCount[]
  /** The version of the code that is in force there; undefined where the log does not tell. */
  readonly version: string | undefined
}

export interface MessageCount {
  readonly kind: 'request' | 'event'
  readonly type: string
  /** Of its schema. */
  readonly version: number
  readonly count: number
  /** The place of the first one: `partition:offset`. */
  readonly first: string
}

/** Where a survey ends: behind so many records, or behind a log time; then at the end of that moment. */
export interface Bounds {
  readonly records?: number
  readonly until?: number
}

/**
 * Reads and decodes the records of a log, in the order of log time. A part of it ends between two moments, so that no event is
 * in it without its cause.
 * @throws HenceError `log-damaged`, `record-unreadable` (operator)
 */
export async function survey(log: Log, bounds: Bounds, read: (records: number) => void): Promise<Survey> {
  const messages = new Map<string, MessageCount & { count: number }>()
  const ends = Array.from({ length: log.partitions }, () => 0)
  const all = ends.map((from, partition) => ({ partition, batches: log.read(partition, from) }))
  let [records, bytes, until] = [0, 0, 0]
  const history: ControlFact[] = []
  let isPart = false
  for await (const [partition, batch] of batchesByTime(all)) {
    const isBehind =
      batch.time > (bounds.until ?? Number.POSITIVE_INFINITY) ||
      (records >= (bounds.records ?? Number.POSITIVE_INFINITY) && batch.time > until)
    if (isBehind) {
      isPart = true
      break
    }
    for (const [i, each] of batch.records.entries()) {
      const record = decodeRecord(each)
      const offset = batch.offset + i
      bytes += each.length
      count(messages, record, `${partition}:${offset}`)
      // A control record stands in every partition.
      if (record.kind !== 'control' || partition !== 0) continue
      history.push(factOf(record.generation, record.control, [{ offset, time: batch.time }]))
    }
    records += batch.records.length
    read(batch.records.length)
    until = batch.time
    ends[partition] = batch.offset + batch.records.length
  }
  const inOrder = [...messages].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each)
  const version = versionOf(history, liveOf(history))
  return { records, bytes, until, ends, isPart, messages: inOrder, version }
}

/** Requests that the code cannot read: of a type or a version that it does not know. Events it emits anew. */
export function unreadable(messages: readonly MessageCount[], app: App): MessageCount[] {
  return messages.filter(({ kind, type, version }) => {
    if (kind !== 'request' || isSystemMessage(type)) return false
    const definition = app.requests.get(type)
    return definition === undefined || version > definition.version
  })
}

function count(
  messages: Map<string, MessageCount & { count: number }>,
  record: LogRecord,
  place: string,
): void {
  if (record.kind !== 'request' && record.kind !== 'event') return
  const { kind, type, version } = record
  // Blanks stand before all that a type is made of, so the order is that of the types.
  const name = `${kind} ${type} ${String(version).padStart(3)}`
  const known = messages.get(name)
  if (known) known.count++
  else messages.set(name, { kind, type, version, count: 1, first: place })
}
