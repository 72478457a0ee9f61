import { changeError } from '../failure.ts'
import { type Answer, jsonTextAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import { principal, token } from './json-schema.ts'
import { choice, integer, text } from './parameter.ts'
import { type Arrival, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'

const logQuery = {
  partition: integer(0, 1_023, 0, 'The partition.'),
  from: integer(0, 999_999_999_999_999, 0, 'The offset of the first record to look at.'),
  limit: integer(1, 1_000, 100, 'How many records a page has at most.'),
  type: text('Only requests and events of this type, or records of this kind.'),
  principal: text('Only requests, and what followed from requests, of this sender.', principal),
  key: text('Only records with which something was derived under this partition key, in its partition.'),
  where: text('Only records with this value in a field: `flight=HE100`, `address.city=Rome`.', {
    type: 'string',
    pattern: '^[^=]+=',
  }),
  since: integer(
    0,
    999_999_999_999_999,
    0,
    'Only records from this log time on, in milliseconds since 1970.',
  ),
  outcome: choice(['any', 'accepted', 'rejected', 'failed'], 'any', 'Only requests with this outcome.'),
}

export function logRoutes(serving: Serving): readonly Route[] {
  return [
    route('GET /log', 'read', 'log', 'Records of a partition of the log, a page at a time', {
      query: logQuery,
      json: forms.logPage,
      handle: (arrival) => logPage(serving, arrival),
    }),
    route('GET /log/:token', 'read', 'log-record', 'One record of the log, with its bytes and hashes', {
      parts: { token },
      json: forms.logRecord,
      problems: [404],
      handle: (arrival) => logRecord(serving, arrival),
    }),
  ]
}

/** A page ends after so many records, matching or not, or bytes of JSON. */
const scannedMax = 10_000
const bytesMax = 1024 * 1024

async function logPage({ engine }: Serving, { request, query }: Arrival<typeof logQuery>): Promise<Answer> {
  const { from, limit, type, principal, outcome, key, where, since } = query
  const partition = key === undefined ? query.partition : engine.log.partitionOf(key)
  // A key is known once a record is applied.
  const known = key === undefined ? Number.POSITIVE_INFINITY : engine.stats().applied[partition]!
  const end = Math.min(await endOf(engine, partition), known)
  const texts: string[] = []
  const begin = since === 0 ? from : await firstSince(engine, partition, since, from, end)
  if (where !== undefined && !/^[^=]+=/.test(where))
    throw changeError('query-invalid', '`where` must name a field and its value: `flight=HE100`.')
  let [next, bytes] = [Math.min(begin, end), 0]
  const first = next
  for await (const record of next < end ? engine.log.read(partition, next) : []) {
    if (record.offset >= known) break
    const fits =
      (type === undefined || record.type === type) &&
      (principal === undefined || record.principal === principal) &&
      (outcome === 'any' || record.outcome === outcome) &&
      (key === undefined || record.hasKey(key)) &&
      (where === undefined || hasField(record.json, where))
    const size = fits ? Buffer.byteLength(record.json) : 0
    if (bytes > 0 && bytes + size > bytesMax) break
    if (fits) texts.push(record.json)
    bytes += size
    next = record.offset + 1
    if (texts.length === limit || next - first >= scannedMax) break
  }
  const facts = JSON.stringify({ partition, from: first, next, end: Math.max(end, next) })
  return jsonTextAnswer(request, `${facts.slice(0, -1)},"records":[${texts.join()}]}`)
}

/** The first record from an offset on that has a log time or a later one. Log time never goes back. */
async function firstSince(
  engine: Serving['engine'],
  partition: number,
  since: number,
  from: number,
  end: number,
): Promise<number> {
  let [low, high] = [Math.min(from, end), end]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    let time = Number.POSITIVE_INFINITY
    for await (const record of engine.log.read(partition, middle)) {
      time = record.time
      break
    }
    if (time >= since) high = middle
    else low = middle + 1
  }
  return low
}

/** Whether a record has a value in a field of its input, data or result, or in a field of its own. */
function hasField(json: string, where: string): boolean {
  const at = where.indexOf('=')
  const [path, value] = [where.slice(0, at).split('.'), where.slice(at + 1)]
  // Most records do not have it anywhere.
  if (!json.includes(JSON.stringify(path.at(-1)!))) return false
  const record = JSON.parse(json) as Record<string, unknown>
  return [record['input'], record['data'], record['result'], record].some((part) => {
    let found = part
    for (const name of path) {
      if (typeof found !== 'object' || found === null || !Object.hasOwn(found, name)) return false
      found = (found as Record<string, unknown>)[name]
    }
    return typeof found === 'string' ? found === value : JSON.stringify(found) === value
  })
}

async function logRecord({ engine }: Serving, { request, parts: [token] }: Arrival): Promise<Answer> {
  const [, partition, offset] = /^(\d{1,4}):(\d{1,15})$/.exec(token!)?.map(Number) ?? [0, 0, Infinity]
  if (offset! < (await endOf(engine, partition!))) {
    for await (const { json, bytes, hashes } of engine.log.read(partition!, offset!)) {
      const more = JSON.stringify({ size: bytes.length, bytes: bytes.toString('base64'), hashes: hashes() })
      return jsonTextAnswer(request, `${json.slice(0, -1)},${more.slice(1)}`)
    }
  }
  throw changeError('record-not-found', `The log has no record ${JSON.stringify(token)}.`)
}

/** @returns the offset of the next record; 0 if there is no such partition */
async function endOf(engine: Serving['engine'], partition: number): Promise<number> {
  return (await engine.log.ends())[partition] ?? 0
}
