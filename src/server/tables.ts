import type { KeyPart, Query, ReadOptions } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import type { TableShape } from '../state/table.ts'
import type { Answer } from './answer.ts'
import type { Caller } from './caller.ts'
import type { Cursors, Position } from './cursor.ts'
import { parseStrict } from './json.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Visible } from './row-rules.ts'
import type { Serving } from './serving.ts'

/** `GET /tables/{table}/{key…}`: one row; each part of the key is a segment of the path. */
export async function row(
  serving: Serving,
  caller: Caller,
  request: Request,
  name: string,
  segments: readonly string[],
  query: URLSearchParams,
): Promise<Answer> {
  const visible = serving.rules.of(caller, name)
  const table = serving.rules.table(name)
  const key = keyOf(table, segments)
  const value = await read(serving, query, (after) => serving.engine.get(name as never, key as never, after))
  // A row that is hidden and one that is not there look the same.
  if (value === undefined || (visible !== 'all' && !visible(value, key))) {
    throw new HenceError(
      'row-not-found',
      'change',
      `Table "${name}" has no row ${JSON.stringify(key)} for you.`,
    )
  }
  return jsonAnswer(request, { key, value })
}

interface RowAt {
  readonly key: readonly KeyPart[]
  readonly value: unknown
}

const limitDefault = 100
const limitMax = 1_000

/**
 * `GET /tables/{table}`: rows in order, a page at a time. Where a rule hides rows, a page may have fewer than it was
 * asked for and still a cursor, since there is a bound on the rows looked at.
 */
export async function page(
  serving: Serving,
  cursors: Cursors,
  caller: Caller,
  request: Request,
  name: string,
  params: URLSearchParams,
): Promise<Answer> {
  const visible = serving.rules.of(caller, name)
  const table = serving.rules.table(name)
  const asked = queryOf(name, params)
  const limit = limitOf(params.get('limit'))
  const cursor = params.get('cursor')
  const from = cursor === null ? undefined : cursors.read(cursor, asked, caller, visible !== 'all')
  const found: RowAt[] = []
  const end = await read(serving, params, (after) =>
    gather({ serving, table, asked, visible, limit, from, found, after }),
  )
  return jsonAnswer(request, {
    rows: found.map(({ key, value }) => ({ key, value })),
    ...(end && { cursor: cursors.make(end, asked, caller, visible !== 'all') }),
  })
}

/**
 * Adds the rows of a page to `found`; gives the position of the last row looked at, if there may be more behind it.
 * It reads in slices, so that a table of hidden rows does not hold up everybody else.
 */
async function gather(options: {
  readonly serving: Serving
  readonly table: TableShape
  readonly asked: Query
  readonly visible: 'all' | Visible
  readonly limit: number
  readonly from: Position | undefined
  readonly found: RowAt[]
  readonly after: ReadOptions
}): Promise<Position | undefined> {
  const { serving, table, asked, visible, limit, found, after } = options
  let { from } = options
  let lookedAt = 0
  for (;;) {
    const slice = Math.min(visible === 'all' ? limit + 1 : 500, serving.limits.rowsLookedAt)
    const rows = await slices(serving, table, asked, from, slice, after)
    for (const each of rows) {
      const isTheirs = visible === 'all' || visible(each.value, each.key)
      // The page ends when there is another row to be seen, so that its cursor says nothing of hidden ones.
      if (isTheirs && found.length === limit) return from
      from = positionOf(table, asked, each)
      if (isTheirs) found.push(each)
    }
    lookedAt += rows.length
    if (rows.length < slice) return undefined
    if (lookedAt >= serving.limits.rowsLookedAt) return from
  }
}

/** So many rows behind a position. */
async function slices(
  { engine }: Serving,
  table: TableShape,
  asked: Query,
  from: Position | undefined,
  limit: number,
  after: ReadOptions,
): Promise<RowAt[]> {
  const scan = (query: Query) =>
    engine.scan(table.name as never, query as never, after) as unknown as Promise<RowAt[]>
  if (from === undefined) return scan({ ...asked, limit })
  const rest = from.slice(asked.prefix?.length ?? 0)
  // The end of a range is left out and its beginning is not, so going forwards the row at the position comes again.
  if (asked.reverse) return rest.length === 0 ? [] : scan({ ...asked, to: rest, limit })
  const rows = await scan({ ...asked, from: rest, limit: limit + 1 })
  const [first] = rows
  const isSame =
    first !== undefined && JSON.stringify(positionOf(table, asked, first)) === JSON.stringify(from)
  return isSame ? rows.slice(1) : rows.slice(0, limit)
}

/** Where a row stands in the order of a query: the indexed values, then the key. */
function positionOf(table: TableShape, { index }: Query, { key, value }: RowAt): Position {
  if (index === undefined) return key
  const fields = table.indexes[index] ?? []
  return [...fields.map((field) => (value as Record<string, KeyPart | boolean>)[field]!), ...key]
}

function queryOf(name: string, params: URLSearchParams): Query {
  const known = ['index', 'prefix', 'from', 'to', 'reverse', 'limit', 'cursor', 'after']
  for (const param of params.keys()) {
    if (!known.includes(param)) throw invalid(name, `there is no parameter ${JSON.stringify(param)}`)
  }
  const index = params.get('index')
  const reverse = params.get('reverse')
  if (reverse !== null && reverse !== 'true' && reverse !== 'false') {
    throw invalid(name, '`reverse` is true or false')
  }
  const [prefix, from, to] = (['prefix', 'from', 'to'] as const).map((param) => partsOf(name, params, param))
  return {
    ...(index !== null && { index }),
    ...(prefix && { prefix }),
    ...(from && { from }),
    ...(to && { to }),
    ...(reverse === 'true' && { reverse: true }),
  }
}

function partsOf(
  name: string,
  params: URLSearchParams,
  param: string,
): readonly (KeyPart | boolean)[] | undefined {
  const text = params.get(param)
  if (text === null) return undefined
  const value = parseStrict(text)
  const fits =
    Array.isArray(value) && value.every((part) => ['string', 'number', 'boolean'].includes(typeof part))
  if (!fits) throw invalid(name, `\`${param}\` must be a JSON list of text, numbers and booleans`)
  return value
}

function limitOf(text: string | null): number {
  if (text === null) return limitDefault
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (limit >= 1 && limit <= limitMax) return limit
  throw new HenceError(
    'query-invalid',
    'change',
    `\`limit\` must be a whole number from 1 to ${limitMax}; more rows come by the cursor.`,
  )
}

function keyOf(table: TableShape, segments: readonly string[]): readonly KeyPart[] {
  const kinds = ['string', ...table.parts]
  return segments.map((segment, i) => {
    if (kinds[i] !== 'number') return segment
    const number = Number(segment)
    if (segment.trim() === '' || !Number.isFinite(number)) {
      throw new HenceError(
        'key-invalid',
        'change',
        `Part ${i + 1} of a key of table "${table.name}" is a number, not ${JSON.stringify(segment)}.`,
      )
    }
    return number
  })
}

/** Reads with `?after=`, and for no longer than a reader may wait. */
async function read<T>(
  { limits }: Serving,
  params: URLSearchParams,
  reading: (options: ReadOptions) => Promise<T>,
): Promise<T> {
  const after = params.getAll('after')
  if (after.length === 0) return reading({})
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new HenceError(
            'after-too-late',
            'retry',
            `What follows from the requests at ${after.join(', ')} was not all applied within ${limits.afterMs} ms. Read again.`,
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

function invalid(name: string, why: string): HenceError {
  return new HenceError('query-invalid', 'change', `The query on table "${name}" makes no sense: ${why}.`)
}
