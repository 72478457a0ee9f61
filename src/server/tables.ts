import type { KeyPart, Query, QueryPart, ReadOptions, Row } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import { parseStrict } from '../json.ts'
import type { TableShape } from '../state/table.ts'
import type { Answer } from './answer.ts'
import { makeCursor, type RowPosition, readCursor } from './cursor.ts'
import { jsonAnswer } from './json-answer.ts'
import type { KeyPartsParameter, Parameter, ValuesOf } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

/** `GET /tables/{table}/{key…}`: one row; each part of the key is a segment of the path. */
export async function row(
  serving: Serving,
  { request, caller, parts, query }: Arrival<{ after: Parameter<readonly string[]> }>,
): Promise<Answer> {
  const [name, ...segments] = parts as [string, ...string[]]
  const visible = serving.rules.row(caller, name)
  const key = keyOf(serving.rules.table(name), segments)
  const value = await read(serving, query.after, (options) =>
    serving.engine.get(name as never, key as never, options),
  )
  // A hidden row and a missing one look the same.
  if (value === undefined || !visible(value, key)) {
    throw new HenceError(
      'row-not-found',
      'change',
      `Table "${name}" has no row ${JSON.stringify(key)} for you.`,
    )
  }
  return jsonAnswer(request, { key, value })
}

type PageQuery = {
  readonly index: Parameter<string | undefined>
  readonly prefix: KeyPartsParameter
  readonly from: KeyPartsParameter
  readonly to: KeyPartsParameter
  readonly reverse: Parameter<'true' | 'false'>
  readonly limit: Parameter<number>
  readonly cursor: Parameter<string | undefined>
  readonly after: Parameter<readonly string[]>
}

/** `GET /tables/{table}`: the rows that the caller may see, in order, a page at a time. */
export async function page(
  serving: Serving,
  { request, caller, parts, query }: Arrival<PageQuery>,
): Promise<Answer> {
  const { limit, cursor, after } = query
  const table = serving.rules.table(parts[0]!)
  const asked = serving.rules.query(caller, table.name, queryOf(query))
  if (asked === undefined) return jsonAnswer(request, { rows: [] })
  const from = cursor === undefined ? undefined : readCursor(cursor, asked)
  // One row more shows whether another page follows.
  const found = await read(serving, after, (options) =>
    rowsFrom(serving, table, asked, from, limit + 1, options),
  )
  const rows = found.slice(0, limit)
  return jsonAnswer(request, {
    rows: rows.map(({ key, value }) => ({ key, value })),
    ...(found.length > limit && { cursor: makeCursor(positionOf(table, asked, rows.at(-1)!)) }),
  })
}

/** Up to `limit` rows behind a position. */
async function rowsFrom(
  { engine }: Serving,
  table: TableShape,
  asked: Query,
  from: RowPosition | undefined,
  limit: number,
  options: ReadOptions,
): Promise<Row[]> {
  const scan = (query: Query) =>
    engine.scan(table.name as never, query as never, options) as unknown as Promise<Row[]>
  if (from === undefined) return scan({ ...asked, limit })
  const rest = from.slice(asked.prefix?.length ?? 0)
  // A range includes its beginning but not its end, so forwards the row at the position comes again.
  if (asked.reverse) return rest.length === 0 ? [] : scan({ ...asked, to: rest, limit })
  const rows = await scan({ ...asked, from: rest, limit: limit + 1 })
  const [first] = rows
  const isSame =
    first !== undefined && JSON.stringify(positionOf(table, asked, first)) === JSON.stringify(from)
  return isSame ? rows.slice(1) : rows.slice(0, limit)
}

/** The position of a row in the order of a query: the indexed values, then the key. */
function positionOf(table: TableShape, { index }: Query, { key, value }: Row): RowPosition {
  if (index === undefined) return key
  const fields = table.indexes[index] ?? []
  return [...fields.map((field) => (value as Record<string, QueryPart>)[field]!), ...key]
}

function queryOf({ index, prefix, from, to, reverse }: ValuesOf<PageQuery>): Query {
  return {
    ...(index !== undefined && { index }),
    ...(prefix && { prefix }),
    ...(from && { from }),
    ...(to && { to }),
    ...(reverse === 'true' && { reverse: true }),
  }
}

function keyOf(table: TableShape, segments: readonly string[]): readonly KeyPart[] {
  const kinds = ['string', ...table.parts]
  return segments.map((segment, i) => {
    if (kinds[i] !== 'number') return segment
    const number = numberIn(segment)
    if (number === undefined) {
      throw new HenceError(
        'key-invalid',
        'change',
        `Part ${i + 1} of a key of table "${table.name}" is a number that a double holds, not ` +
          `${JSON.stringify(segment)}.`,
      )
    }
    return number
  })
}

/**
 * A number as strictly as in a JSON body, which rounds none to that of another row; or as Hence itself writes
 * it.
 */
function numberIn(segment: string): number | undefined {
  if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(segment)) return undefined
  const number = Number(segment)
  if (String(number) === segment) return number
  try {
    return parseStrict(segment) as number
  } catch {
    return undefined
  }
}

/** Reads behind `after`, and waits for it no longer than a reader may wait. */
async function read<T>(
  { limits }: Serving,
  after: readonly string[],
  reading: (options: ReadOptions) => Promise<T>,
): Promise<T> {
  if (after.length === 0) return reading({})
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new HenceError(
            'after-too-late',
            'retry',
            `The requests at ${after.join(', ')} and their consequences were not applied within ` +
              `${limits.afterMs} ms. Read again.`,
          ),
        ),
      limits.afterMs,
    )
  })
  try {
    return await Promise.race([reading({ after }), late])
  } finally {
    clearTimeout(timer)
  }
}
