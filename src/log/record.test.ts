import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeRecord, type EventRecord, encodeEvent, encodeRequest, type RequestRecord } from './record.ts'

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

// Logs of before there were versions hold zeros here, and what derives them again must give the same bytes.
test('version 1 is written as zero', () => {
  assert.equal(encodeRequest('x1\0', 'pay', '{}', undefined, 1).readUInt16LE(6), 0)
  assert.equal(encodeEvent(event)[1], 0)
})
