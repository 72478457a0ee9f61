import { setImmediate as turn } from 'node:timers/promises'
import type { KeyPart, Query, Row } from '../app/index.ts'
import { changeError } from '../failure.ts'
import { type Position, positionOf } from '../log/log.ts'
import { partitionOf } from '../log/partitions.ts'
import type { Processor } from '../processor/processor.ts'
import { encodeKey } from '../state/keys.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { type TableRow, type TableShape, TableState } from '../state/table.ts'
import { rowOf } from './rows.ts'

/** A point of the log: a log time, and in the partition of a record exactly this one. */
interface Moment {
  readonly time: number
  readonly record: Position | undefined
}

/** The rows that have changed since a moment, by encoded key, as they were; undefined where there was none. */
type Before = ReadonlyMap<string, unknown>

interface UndoneRows {
  readonly table: string
  /** The encoded key of the row; undefined: all rows. */
  readonly key: string | undefined
  readonly partitions: readonly number[]
  readonly moment: Moment
}

/** So many records are looked at, or characters of rows kept, before a reading is refused. */
const recordsMax = 200_000
const charactersMax = 16 * 1024 * 1024
const recordsPerTurn = 1_000

interface PastHost {
  /** Undefined for a table that is not the app's. */
  shape(table: string): TableShape | undefined
  /** @throws HenceError `unknown-table` (change) */
  table(name: string): TableState
  out(table: string, row: unknown): unknown
  timeOf(record: Position): Promise<number>
}

export type Past = ReturnType<typeof pastOf>

/** Reads rows of the app's tables as they were, from those that are there and the traces of changes since. */
export function pastOf(processor: Processor, host: PastHost) {
  let firstAt: number | undefined

  const tableOf = (name: string): { readonly table: TableState; readonly shape: TableShape } => {
    const [table, shape] = [host.table(name), host.shape(name)]
    if (shape !== undefined) return { table, shape }
    throw changeError('query-invalid', `Table "${name}" is read as it is now: leave \`at\` out.`)
  }

  const momentOf = async (at: string | number): Promise<Moment> => {
    const { partitions, positions, changesSince } = processor
    const record = positionOf(`${at}`, partitions)
    const isThere = record ? record.offset < positions[record.partition]! : /^\d{1,16}$/.test(`${at}`)
    if (!isThere) throw unknown(at, 'it is no log time in milliseconds, and no token of this log')
    const time = record ? await host.timeOf(record) : Number(at)
    if (time >= changesSince) return { time, record }
    const since = new Date(changesSince).toISOString()
    throw unknown(at, `all changes of rows are kept since ${since}, or a promotion came then`)
  }

  return {
    /** The first log time as of which rows can be read; undefined while the log has no record. */
    get since(): number | undefined {
      const { traces, partitions, changesSince } = processor
      if (changesSince > 0) return changesSince
      if (firstAt === undefined) {
        const times = [...Array(partitions).keys()].flatMap((partition) =>
          traces.from({ partition, offset: 0 }, 1).map(({ trace }) => trace.time),
        )
        if (times.length > 0) firstAt = Math.min(...times)
      }
      return firstAt
    },
    async get(name: string, key: readonly KeyPart[], at: string | number): Promise<unknown> {
      const { table } = tableOf(name)
      rowOf(table, key) // It checks the key.
      const row = encodeKey(key)
      const partitions = [partitionOf(key[0] as string, processor.partitions)]
      const asked = { table: name, key: row, partitions, moment: await momentOf(at) }
      return readBefore(processor, asked, (before) => {
        const found = before.has(row) ? before.get(row) : table.get(row)
        return found === undefined ? undefined : host.out(name, found)
      })
    },
    /** It throws what `get` does. */
    async scan(
      name: string,
      query: Query,
      at: string | number,
      until?: (row: TableRow) => boolean,
    ): Promise<Row<KeyPart[], unknown>[]> {
      const { table, shape } = tableOf(name)
      const { partitions: count } = processor
      const { index, prefix: [first] = [] } = query
      const isOfOne = index === undefined && typeof first === 'string'
      const partitions = isOfOne ? [partitionOf(first, count)] : [...Array(count).keys()]
      const asked = { table: name, key: undefined, partitions, moment: await momentOf(at) }
      return readBefore(processor, asked, (before) => {
        const rows = scanBefore(table, shape, before, query, until)
        return rows.map(({ key, value }) => ({ key, value: host.out(name, value) }))
      })
    },
  }
}

/**
 * Undoes changes, the last first, in several turns of the event loop.
 * @param read called with the rows in the turn in which nothing has changed since
 */
async function readBefore<T>(
  { traces, positions }: Processor,
  { table, key, partitions, moment }: UndoneRows,
  read: (before: Before) => T,
): Promise<T> {
  const before = new Map<string, unknown>()
  const text = JSON.stringify(key === undefined ? [table] : [table, key]).slice(1, -1)
  let [records, characters] = [0, 0]
  /** By partition: what begins here was undone in an earlier round. */
  let undone = partitions.map(() => 0)
  for (;;) {
    const ends = partitions.map((partition) => positions[partition]!)
    if (ends.every((end, i) => end === undone[i])) return read(before)
    const round = new Map<string, unknown>()
    for (const [i, partition] of partitions.entries()) {
      const isAfter = (offset: number, time: number) =>
        moment.record?.partition === partition ? offset > moment.record.offset : time > moment.time
      for (let end = ends[i]!, isOver = false; !isOver; ) {
        isOver = true
        let looked = 0
        for (const { offset, time, trace } of traces.back({ partition, offset: end }, text)) {
          if (offset < undone[i]! || !isAfter(offset, time)) break
          if (records === recordsMax || characters > charactersMax) throw tooFar(table, records, time)
          records++
          const changes = trace?.derivations.flatMap((each) => each.changes) ?? []
          for (const [name, row, old] of changes.reverse()) {
            if (name !== table || (key !== undefined && row !== key)) continue
            if (!round.has(row)) characters += row.length
            characters += JSON.stringify(old).length
            round.set(row, old ?? undefined)
          }
          end = offset
          if (++looked < recordsPerTurn) continue
          isOver = false
          break
        }
        if (!isOver) await turn()
      }
    }
    for (const [row, old] of round) if (!before.has(row)) before.set(row, old)
    undone = ends
  }
}

/** The rows of a table that match a query, as they were; `until` as for `TableState.scan`. */
function scanBefore(
  table: TableState,
  shape: TableShape,
  before: Before,
  query: Query,
  until: (row: TableRow) => boolean = () => false,
): TableRow[] {
  const { index, reverse, limit = Number.POSITIVE_INFINITY } = query
  const changed = new TableState(new State(memoryStore()), shape, jsonCodec)
  for (const [key, row] of before) if (row !== undefined) changed.put(key, row, true)
  const old = changed.scan(query)
  const found: TableRow[] = []
  if (limit === 0) return found
  const ends = (row: TableRow) => found.push(row) >= limit || until(row)
  const isBefore = (a: TableRow, b: TableRow) =>
    table.orderOf(a, index) < table.orderOf(b, index) !== (reverse === true)
  let isOver = false
  table.scan({ ...query, limit: undefined }, undefined, (row) => {
    if (before.has(encodeKey(row.key))) return false
    while (!isOver && old.length > 0 && isBefore(old[0]!, row)) isOver = ends(old.shift()!)
    isOver ||= ends(row)
    return isOver
  })
  while (!isOver && old.length > 0) isOver = ends(old.shift()!)
  return found
}

const jsonCodec = { encode: (value: unknown) => JSON.stringify(value), decode: JSON.parse }

const tooFar = (table: string, records: number, time: number) =>
  changeError(
    'past-too-far',
    `To read table "${table}" as it was, the changes of ${records} records were undone, back to ` +
      `${new Date(time).toISOString()}, and there are more. Read it at a later time, one row of it, or the rows of ` +
      'one partition key.',
  )

const unknown = (at: string | number, why: string) =>
  changeError('position-unknown', `Rows cannot be read as they were at ${JSON.stringify(at)}: ${why}.`)
