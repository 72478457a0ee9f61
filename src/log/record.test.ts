import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeRecord,
  type EventRecord,
  encodeEvent,
  encodeFilled,
  encodeMark,
  encodeRequest,
  encodeRuling,
  encodeTick,
  encodeWatermark,
  type RequestRecord,
} from './record.ts'
import { exportLine } from './record-line.ts'

const event: EventRecord = {
  kind: 'event',
  generation: 0,
  causePartition: 1,
  causeOffset: 2,
  rootPartition: 3,
  rootOffset: 4,
  identity: 'x1\0',
  depth: 5,
  type: 'paid',
  version: 1,
  key: 'Zoë',
  channelNumber: 6,
  id: '0123456789abcdef',
  data: '{"cents":7}',
}

test('every version of a message is decoded from its bytes', () => {
  for (const version of [1, 2, 255]) {
    const request = decodeRecord(encodeRequest('x1\0', 'pay', '{}', '{"cents":1}', version)) as RequestRecord
    assert.equal(request.version, version)
    assert.equal(request.output, '{"cents":1}')
    assert.deepEqual(decodeRecord(encodeEvent({ ...event, version })), { ...event, version })
  }
})

test('a chain of messages may be of any length', () => {
  const decoded = decodeRecord(encodeEvent({ ...event, depth: 70_000 })) as EventRecord
  assert.deepEqual(decoded, { ...event, depth: 65_535 })
})

test('a request has an output, names what it replies to, both, or neither', () => {
  for (const output of [undefined, '{"x":"ö"}'])
    for (const inReplyTo of [undefined, 'r', 'x'.repeat(255)]) {
      const record = decodeRecord(
        encodeRequest('x1\0', 'pay', '{"ä":1}', output, 1, inReplyTo),
      ) as RequestRecord
      assert.deepEqual([record.input, record.output, record.inReplyTo], ['{"ä":1}', output, inReplyTo])
    }
})

test('a ruling, a mark and filled rows are decoded from their bytes', () => {
  const ruling = {
    version: 'a'.repeat(64),
    offset: 7,
    n: 0,
    kind: 'request',
    type: 'pay',
    key: 'Zoë',
    code: 'derivation-too-long',
    message: 'It took longer than 5000 ms.',
  } as const
  assert.deepEqual(decodeRecord(encodeRuling(ruling)), { kind: 'ruling', generation: 0, ruling })
  assert.deepEqual(decodeRecord(encodeRuling(ruling, 3)), { kind: 'ruling', generation: 3, ruling })
  const line = exportLine({ partition: 0, offset: 9, time: 1, record: decodeRecord(encodeRuling(ruling, 3)) })
  const { kind, derivation, generation } = JSON.parse(line)
  assert.deepEqual([kind, derivation, generation], ['ruling', 'request', 3])
  const mark = { offset: 7, ms: 900 }
  assert.deepEqual(decodeRecord(encodeMark(mark)), { kind: 'mark', mark })
  const watermark = { before: 1_700_000_000_000, time: 1_790_000_000_000 }
  assert.deepEqual(decodeRecord(encodeWatermark(watermark)), { kind: 'watermark', watermark })
  const filled = { control: 2, n: 0, table: 'rows', rows: [[['Zoë', 1], { cents: 1 }]] } as const
  const bytes = encodeFilled(filled, 3)
  assert.deepEqual(decodeRecord(bytes), { kind: 'filled', generation: 3, filled })
  const shown = exportLine({ partition: 0, offset: 9, time: 1, record: decodeRecord(bytes) })
  assert.deepEqual(JSON.parse(shown), { token: '0:9', at: 1, kind: 'filled', generation: 3, ...filled })
})

test('a flag that this version does not know stops the reader', () => {
  for (const bytes of [
    encodeRequest('x1\0', 'pay', '{}', undefined, 1),
    encodeEvent(event),
    encodeTick(),
    encodeMark({ offset: 1, ms: 1 }),
  ]) {
    bytes[1]! |= 0x80
    assert.throws(() => decodeRecord(bytes), { code: 'record-unreadable' })
  }
})
