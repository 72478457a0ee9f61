import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonTextAnswer } from './json-answer.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

type LogQuery = {
  readonly partition: Parameter<number>
  readonly from: Parameter<number>
  readonly limit: Parameter<number>
  readonly type: Parameter<string | undefined>
  readonly principal: Parameter<string | undefined>
  readonly outcome: Parameter<'any' | 'accepted' | 'rejected' | 'failed'>
}

/** A page ends after so many records, matching or not, or bytes of JSON. */
const scannedMax = 10_000
const bytesMax = 1024 * 1024

/** `GET /log`: the records of a partition from an offset on, as the log holds them. */
export async function logPage({ engine }: Serving, { request, query }: Arrival<LogQuery>): Promise<Answer> {
  const { partition, from, limit, type, principal, outcome } = query
  const end = await endOf(engine, partition)
  const texts: string[] = []
  let [next, bytes] = [Math.min(from, end), 0]
  const first = next
  for await (const record of next < end ? engine.log.read(partition, next) : []) {
    const fits =
      (type === undefined || record.type === type) &&
      (principal === undefined || record.principal === principal) &&
      (outcome === 'any' || record.outcome === outcome)
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

/** `GET /log/{token}`: one record with its bytes and hashes. */
export async function logRecord({ engine }: Serving, { request, parts: [token] }: Arrival): Promise<Answer> {
  const [, partition, offset] = /^(\d{1,4}):(\d{1,15})$/.exec(token!)?.map(Number) ?? [0, 0, Infinity]
  if (offset! < (await endOf(engine, partition!))) {
    for await (const { json, bytes, hashes } of engine.log.read(partition!, offset!)) {
      const more = JSON.stringify({ size: bytes.length, bytes: bytes.toString('base64'), hashes: hashes() })
      return jsonTextAnswer(request, `${json.slice(0, -1)},${more.slice(1)}`)
    }
  }
  throw new HenceError('record-not-found', 'change', `The log has no record ${JSON.stringify(token)}.`)
}

/** @returns the offset of the next record; 0 if there is no such partition */
async function endOf(engine: Serving['engine'], partition: number): Promise<number> {
  return (await engine.log.ends())[partition] ?? 0
}
