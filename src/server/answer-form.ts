import { anything, count, list, object, oneOf, requestId, sha256, text, time } from './json-schema.ts'
import type { AnswerForm } from './route.ts'

// How answers look, for OpenAPI.

export function textForm(type: `${string}/${string}`, description: string): AnswerForm {
  return { description, content: { [type]: text } }
}

const status = oneOf('accepted', 'rejected', 'failed')
const outcome = object({ status })
const corrected = { ...outcome, description: 'The outcome by the live code, if it differs from the first.' }
const replayed = { type: 'boolean' }
const objects = list(object({}))

export const state: AnswerForm = {
  description: 'The file `data.mdb` of a folder of state.',
  headers: { 'Hence-Generation': { type: 'integer', minimum: 0 } },
  content: { 'application/octet-stream': {} },
}
export const file = textForm('text/html', 'The file.')

export const logRecord = object({
  token: text,
  at: time,
  kind: oneOf(
    ...['request', 'event', 'tick', 'result', 'control', 'correction', 'ruling', 'mark', 'watermark'],
    'filled',
  ),
  'outcome?': status,
})

export const logPage = object({
  partition: count,
  from: count,
  next: { ...count, description: 'Where the next page begins.' },
  end: { ...count, description: 'The offset of the next record of the log.' },
  records: list(logRecord),
})

export const accepted: AnswerForm = {
  description: 'Accepted. `replayed`: the request had arrived before.',
  headers: { 'Hence-Token': text, 'Hence-Outcome': text, 'Idempotent-Replayed': { const: 'true' } },
  content: {
    'application/json': object({
      requestId,
      status: { const: 'accepted' },
      value: anything,
      token: text,
      replayed,
      'corrected?': corrected,
    }),
  },
}

export const durable: AnswerForm = {
  description: 'Durable; Location leads to its story.',
  headers: { Location: text, 'Hence-Token': text, 'Preference-Applied': text },
  content: { 'application/json': object({ requestId, token: text }) },
}

export const diff: AnswerForm = {
  description: 'The summary; as application/x-ndjson every difference, one a line.',
  headers: { 'Hence-Diff': { ...sha256, description: 'With application/x-ndjson: the hash of the diff.' } },
  content: { 'application/json': object({}), 'application/x-ndjson': text },
}

/** RFC 9457. */
export const problem = object({
  type: { type: 'string', description: '`urn:hence:error:` and the code.' },
  title: text,
  status: { type: 'integer' },
  detail: text,
  code: text,
  advice: oneOf('retry', 'change', 'operator'),
  'outcome?': {
    ...oneOf('rejected', 'failed'),
    description: 'The request is decided; a retry has the same outcome.',
  },
  'reason?': text,
  'details?': anything,
  'requestId?': text,
  'token?': text,
  'replayed?': replayed,
  'corrected?': corrected,
})

export const history = object({
  changes: list(
    object({
      token: text,
      at: time,
      'kind?': text,
      'type?': text,
      'requestId?': text,
      'principal?': text,
      'before?': anything,
      'after?': anything,
    }),
  ),
  keptFrom: { ...text, description: 'The first position whose changes are kept.' },
  'cursor?': text,
})

export const story = object({
  requestId: text,
  principal: text,
  type: text,
  input: anything,
  token: text,
  at: time,
  'outcome?': { ...outcome, description: 'The first outcome; left out while the request is undecided.' },
  'corrected?': corrected,
  'inReplyTo?': text,
  replies: list(object({ inReplyTo: text, requestId: text, principal: text, type: text, token: text })),
  steps: list(
    object({
      token: text,
      at: time,
      kind: oneOf('request', 'event', 'timer', 'result', 'correction'),
      type: text,
      'key?': text,
      changes: objects,
      events: objects,
      effects: objects,
      'failure?': object({}),
      'correction?': object(
        { kind: oneOf('outcome', 'effect'), promotion: object({ number: { type: 'integer' }, at: time }) },
        { description: 'Of a correction: which difference it answers, and the promotion that caused it.' },
      ),
    }),
  ),
})

export const preview = object({
  'outcome?': { ...outcome, description: 'Left out if the request would have to wait.' },
  isWhole: { type: 'boolean', description: 'Whether `steps` has all that would follow at once.' },
  steps: list(
    object({
      at: time,
      kind: text,
      type: text,
      key: text,
      changes: objects,
      events: objects,
      effects: objects,
    }),
  ),
})

export const head = object({
  format: { const: 'hence-head' },
  version: { const: 1 },
  logId: { type: 'string', pattern: '^[0-9a-f]{32}$' },
  time: { ...time, description: 'When it was signed, in milliseconds since 1970.' },
  partitions: list(object({ size: count, root: sha256 })),
  signature: { type: 'string', contentEncoding: 'base64' },
})

export const consistency = object({
  format: { const: 'hence-consistency' },
  version: { const: 1 },
  from: list(count),
  paths: list(list(text)),
  head,
})
