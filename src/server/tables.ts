import { setImmediate as turn } from 'node:timers/promises'
import type { KeyPart, Query, QueryPart, ReadOptions, Row } from '../app/index.ts'
import { orAfter } from '../clock.ts'
import { afterTooLate } from '../engine/read-after.ts'
import { changeError } from '../failure.ts'
import { parseStrict } from '../json.ts'
import type { ChangePlace } from '../query/history.ts'
import type { TableShape } from '../state/table.ts'
import { type Answer, jsonAnswer, jsonTextAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import { allows } from './caller.ts'
import { type ChangeStreams, changesQuery } from './changes.ts'
import { expandChanges, expandGet, expandHistory, expandScan } from './expand.ts'
import { token } from './json-schema.ts'
import { cursorInvalid, makeCursor, pageOf, type RowPosition, readCursor } from './page.ts'
import { choice, cursorAfter, integer, keyParts, text, texts, type ValuesOf } from './parameter.ts'
import { type Arrival, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'
import { ageMax } from './standby.ts'

const after = texts('Tokens of replies: the read waits until those requests are applied.', token)
const at = text('Rows as they were: at the record of a token, or at a log time in milliseconds.', {
  anyOf: [token, { type: 'string', pattern: '^\\d{1,16}$' }],
})
const rowQuery = { after, at }
const historyQuery = {
  limit: integer(1, 1_000, 100, 'How many changes a page has at most.'),
  cursor: cursorAfter,
}
const pageQuery = {
  index: text('Order by the fields of this index.'),
  prefix: keyParts('Only rows whose key, or index fields and key, begins so: a JSON list.'),
  from: keyParts('Only rows from here on; a JSON list of parts after the prefix.'),
  to: keyParts('Only rows before this; a JSON list of parts after the prefix.'),
  reverse: choice(['true', 'false'], 'false', 'The last row first.'),
  limit: integer(1, 1_000, 100, 'How many rows a page has at most.'),
  cursor: cursorAfter,
  after,
  at,
}

export function tableRoutes(serving: Serving, streams: ChangeStreams): readonly Route[] {
  const form = { headers: [ageMax], json: {}, problems: [404, 410, 422], standby: true } as const
  return [
    route('GET /tables/:table', 'known', 'scan', 'Rows of a table, a page at a time', {
      ...form,
      query: pageQuery,
      expand: expandScan,
      handle: (arrival) => page(serving, arrival),
    }),
    route('GET /tables/:table/*', 'known', 'get', 'One row of a table', {
      ...form,
      query: rowQuery,
      expand: expandGet,
      handle: (arrival) => row(serving, arrival),
    }),
    route('GET /changes', 'known', 'changes', 'Changed rows as server-sent events', {
      query: changesQuery,
      answers: { 200: forms.textForm('text/event-stream', 'The stream.') },
      problems: [404, 410, 429],
      expand: expandChanges,
      isLong: true,
      handle: (arrival) => streams.start(arrival),
    }),
    route('GET /changes/:table/*', 'known', 'history', 'The changes of one row, the last first', {
      ...form,
      query: historyQuery,
      json: forms.history,
      problems: [404, 422],
      expand: expandHistory,
      handle: (arrival) => history(serving, arrival),
    }),
  ]
}

/** Each part of the key is a segment of the path. */
async function row(
  serving: Serving,
  { request, caller, parts, query }: Arrival<typeof rowQuery>,
): Promise<Answer> {
  const [name, ...segments] = parts as [string, ...string[]]
  const { rules } = serving
  const visible = await rules.limited(`a row of table "${name}"`, () => rules.row(caller, name))
  const key = keyOf(rules.table(name), segments)
  const value = await read(serving, query, (options) =>
    serving.engine.get(name as never, key as never, options),
  )
  // A hidden row and a missing one look the same.
  if (value === undefined || !(await rules.limited(`a row of table "${name}"`, () => visible(value, key)))) {
    throw changeError(
      'row-not-found',
      `Table "${name}" has no row ${JSON.stringify(key)}, or none that you may read.`,
    )
  }
  return jsonAnswer(request, { key, value })
}

/** A page ends after so many records of the partition, or bytes of JSON. */
const scannedMax = 50_000
const historyBytes = 1024 * 1024

/**
 * The changes of a row that the caller may see. Hidden ones do not count for a page, whose cursor would
 * disclose how many there are; of requests of others, callers without `read` see nothing but the change.
 */
async function history(
  { engine, rules }: Serving,
  { request, caller, parts, query: { limit, cursor } }: Arrival<typeof historyQuery>,
): Promise<Answer> {
  const [table, ...segments] = parts as [string, ...string[]]
  rules.row(caller, table)
  const key = keyOf(rules.table(table), segments)
  const isReader = allows(caller, 'read')
  const visible = rules.changes(caller, 'row')
  const texts: string[] = []
  const page = (keptFrom: string, next: ChangePlace | undefined) => {
    const more = JSON.stringify({ keptFrom, ...(next && { cursor: makeCursor(next) }) }).slice(1)
    return jsonTextAnswer(request, `{"changes":[${texts.join()}],${more}`)
  }
  let before = cursor === undefined ? undefined : placeIn(cursor)
  for (let [bytes, scanned] = [0, 0]; ; ) {
    const wanted = isReader ? limit - texts.length : 1_000
    const found = await engine.history(table, key, { before, limit: wanted })
    const shown = await rules.limited(`a row of table "${table}"`, () =>
      found.changes.flatMap((change) => visible({ ...change, table, key }) ?? []),
    )
    for (const { token, at, nth, before: from, after: to, ...by } of shown) {
      const { kind, type, requestId, principal } = by
      const isSeen = isReader || principal === caller.principal
      const made = isSeen && { kind, type, requestId, principal }
      const text = JSON.stringify({ token, at, ...made, before: from, after: to })
      bytes += Buffer.byteLength(text)
      if (texts.length === limit || (texts.length > 0 && bytes > historyBytes))
        return page(found.keptFrom, before)
      texts.push(text)
      before = [Number(token.split(':')[1]), nth]
    }
    scanned += found.scanned
    if (texts.length === limit || found.next === undefined || scanned >= scannedMax)
      return page(found.keptFrom, found.next)
    before = found.next
    await turn()
  }
}

function placeIn(cursor: string): ChangePlace {
  const [offset, nth] = readCursor(cursor, {})
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(nth) && (offset as number) >= 0)
    return [offset as number, nth as number]
  throw cursorInvalid()
}

async function page(
  serving: Serving,
  { request, caller, parts, query }: Arrival<typeof pageQuery>,
): Promise<Answer> {
  const { limit, cursor, index, prefix, from, to, reverse } = query
  const { rules } = serving
  const table = rules.table(parts[0]!)
  const asked = await rules.limited(`table "${table.name}"`, () =>
    rules.query(caller, table.name, { index, prefix, from, to, reverse: reverse === 'true' }),
  )
  if (asked === undefined) return jsonAnswer(request, { rows: [] })
  const position = cursor === undefined ? undefined : readCursor(cursor, asked)
  const positionText = (row: Row) => JSON.stringify(positionOf(table, asked, row))
  const seen = JSON.stringify(position)
  const rows = pageOf<Row>(limit, (row) => positionText(row) === seen)
  const rest = position?.slice(asked.prefix?.length ?? 0)
  // A range includes its beginning but not its end, so forwards the row at the position comes again.
  const behind = rest && (asked.reverse ? { to: rest } : { from: rest })
  if (!(asked.reverse && rest?.length === 0)) {
    await read(serving, query, (options) =>
      serving.engine.scan(table.name as never, { ...asked, ...behind } as never, {
        ...options,
        until: rows.ends,
      }),
    )
  }
  return rows.answer(request, 'rows', (last) => makeCursor(positionOf(table, asked, last)))
}

function positionOf(table: TableShape, { index }: Query, { key, value }: Row): RowPosition {
  if (index === undefined) return key
  const fields = table.indexes[index] ?? []
  return [...fields.map((field) => (value as Record<string, QueryPart>)[field]!), ...key]
}

function keyOf(table: TableShape, segments: readonly string[]): readonly KeyPart[] {
  const kinds = ['string', ...table.parts]
  return segments.map((segment, i) => {
    if (kinds[i] !== 'number') return segment
    const number = numberIn(segment)
    if (number === undefined) {
      throw changeError(
        'key-invalid',
        `Part ${i + 1} of a key of table "${table.name}" is a number that a double holds, not ` +
          `${JSON.stringify(segment)}.`,
      )
    }
    return number
  })
}

/** A number as strictly as in a JSON body, which rounds none to another row's; or as Hence writes it. */
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
  { after, at }: ValuesOf<typeof rowQuery>,
  reading: (options: ReadOptions) => Promise<T>,
): Promise<T> {
  if (after.length === 0) return reading({ at })
  const reply = reading({ after, at }).then((value) => ({ value }))
  const found = await orAfter(reply, limits.afterMs)
  if (found !== undefined) return found.value
  throw afterTooLate(after, limits.afterMs)
}
