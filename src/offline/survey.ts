import type { App } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { assert } from '../assert.ts'
import { type ControlFact, factOf, liveOf, versionOf } from '../log/control-history.ts'
import type { Log } from '../log/log.ts'
import { batchesByTime } from '../log/merge-by-time.ts'
import { decodeRecord, type LogRecord } from '../log/record.ts'
import type { SchemaFits } from './schema-fits.ts'

/** The content of a log, up to some moment. */
export interface Survey {
  readonly records: number
  readonly bytes: number
  /** The log time of the last record, in milliseconds since 1970; 0 without one. */
  readonly until: number
  /** The offset up to which each partition was read. */
  readonly ends: readonly number[]
  readonly isPart: boolean
  /** Requests and events by type and version, in order. */
  readonly messages: readonly MessageCount[]
  readonly live: number
  /** The version of its code; undefined where the log does not say. */
  readonly version: string | undefined
}

/** How often a log holds messages of one type and version. */
export interface MessageCount {
  readonly kind: 'request' | 'event'
  readonly type: string
  /** The version of the type. */
  readonly version: number
  readonly count: number
  /** The position of the first one: `partition:offset`. */
  readonly first: string
}

/** Where a survey ends: after about so many records, or at a log time; in either case between two moments. */
interface SurveyBounds {
  readonly records?: number | undefined
  readonly until?: number | undefined
}

/**
 * Reads and decodes the records of a log, in the order of log time. A part of the log ends between two
 * moments, so that it holds no event without its cause.
 * @param read called with the number of records that were read since the last call
 * @param fits receives the records
 */
export async function survey(
  log: Log,
  bounds: SurveyBounds,
  read: (records: number) => void,
  fits: SchemaFits,
): Promise<Survey> {
  const { records: recordsMax = Number.POSITIVE_INFINITY, until: untilMax = Number.POSITIVE_INFINITY } =
    bounds
  const messages = new Map<string, MessageCount & { count: number }>()
  const ends = Array.from({ length: log.partitions }, () => 0)
  const all = ends.map((from, partition) => ({ partition, batches: log.read(partition, from) }))
  let [records, bytes, until] = [0, 0, 0]
  const history: ControlFact[] = []
  let isPart = false
  for await (const [partition, batch] of batchesByTime(all)) {
    if (batch.time > untilMax || (records >= recordsMax && batch.time > until)) {
      isPart = true
      break
    }
    assert(batch.time >= until, 'batches arrive in the order of log time', batch.time, until)
    assert(batch.offset <= ends[partition]!, 'a partition has no gaps', batch.offset, ends[partition])
    for (const [i, each] of batch.records.entries()) {
      const record = decodeRecord(each)
      const offset = batch.offset + i
      bytes += each.length
      const position = `${partition}:${offset}`
      countMessage(messages, record, position)
      const compared = fits.record(record, position)
      if (compared !== undefined) await compared
      // A control record is in every partition; it counts once.
      if (record.kind !== 'control' || partition !== 0) continue
      history.push(factOf(record.generation, record.control, [{ offset, time: batch.time }]))
    }
    records += batch.records.length
    read(batch.records.length)
    until = batch.time
    ends[partition] = batch.offset + batch.records.length
  }
  const inOrder = [...messages].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each)
  await fits.compare()
  const live = liveOf(history)
  const version = versionOf(history, live)
  return { records, bytes, until, ends, isPart, messages: inOrder, live, version }
}

/** The requests whose type or version an app does not know. Events do not count: new code emits its own. */
export function unreadable(messages: readonly MessageCount[], app: App): MessageCount[] {
  return messages.filter(({ kind, type, version }) => {
    if (kind !== 'request' || isSystemMessage(type)) return false
    const definition = app.requests.get(type)
    return definition === undefined || version > definition.version
  })
}

function countMessage(
  messages: Map<string, MessageCount & { count: number }>,
  record: LogRecord,
  position: string,
): void {
  if (record.kind !== 'request' && record.kind !== 'event') return
  const { kind, type, version } = record
  // A blank sorts before every character of a type, so the order is that of the types.
  const name = `${kind} ${type} ${String(version).padStart(3)}`
  const known = messages.get(name)
  if (known) known.count++
  else messages.set(name, { kind, type, version, count: 1, first: position })
}
