import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { HenceError } from 'hence'
import { checkConsistency } from '../../src/audit/consistency.ts'
import { headLine, parseHead, signHead } from '../../src/audit/head.ts'
import { checkReceipt } from '../../src/audit/receipt.ts'
import { parseStrict, textOf } from '../../src/json.ts'
import {
  batchBytes,
  headerBytes,
  payloadIsWhole,
  readHeader,
  recordsOf,
  writeHeader,
  writeRecord,
} from '../../src/log/file-log/batch.ts'
import {
  decodeRecord,
  encodeControl,
  encodeEvent,
  encodeRequest,
  encodeResult,
  encodeTick,
  encodeWatermark,
  eventIn,
} from '../../src/log/record.ts'
import { idIn } from '../../src/server/idempotency-key.ts'
import { readCursor } from '../../src/server/page.ts'
import { checkProperty, runsOf } from '../kept-failures.ts'

// Readers of bytes that others wrote, or that a disk has changed. They read, or refuse with a code and say
// what to do. Worse than a refusal is anything else that is thrown; then a value that nobody wrote.

const { runs } = runsOf(3_000)

/** Bytes like valid ones: some of them changed, removed or added. */
function near(valid: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const change = fc.tuple(
    fc.constantFrom('set', 'cut', 'add', 'end'),
    fc.nat(),
    fc.uint8Array({ maxLength: 9 }),
  )
  return fc.tuple(fc.constantFrom(...valid), fc.array(change, { maxLength: 4 })).map(([from, changes]) => {
    let bytes = Buffer.from(from)
    for (const [how, where, more] of changes) {
      const at = where % (bytes.length + 1)
      const rest = bytes.subarray(how === 'add' ? at : how === 'cut' ? at + 1 : at + more.length)
      bytes = Buffer.concat([
        bytes.subarray(0, at),
        how === 'cut' || how === 'end' ? noBytes : more,
        how === 'end' ? noBytes : rest,
      ])
    }
    return bytes
  })
}

const noBytes = Buffer.alloc(0)
const anyBytes = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))
const bytesNear = (...valid: Buffer[]) => fc.oneof({ weight: 5, arbitrary: near(valid) }, anyBytes)
const textsNear = (...valid: string[]) =>
  bytesNear(...valid.map((text) => Buffer.from(text))).map((bytes) => bytes.toString())

function fuzz<T>(name: string, inputs: fc.Arbitrary<T>, read: (input: T) => void): void {
  test(`${name}: reads, or refuses with a code`, () =>
    checkProperty(
      'fuzz-readers',
      fc.asyncProperty(inputs, async (input) => {
        try {
          read(input)
        } catch (error) {
          if (!(error instanceof HenceError)) throw error
        }
      }),
      runs,
    ))
}

const event = {
  kind: 'event',
  ...{ generation: 1, causePartition: 2, causeOffset: 9, rootPartition: 3, rootOffset: 4 },
  ...{ identity: 'x1\0', depth: 5, type: 'paid', version: 1, key: 'Zoë', channelNumber: 6 },
  ...{ id: '0123456789abcdef', data: '{"cents":7}' },
} as const
const records = [
  encodeRequest('x1\0ann', 'pay', '{"cents":1}', '{"cents":2}', 3, 'r0'),
  encodeRequest('x1\0', 'pay', '{}', undefined, 1),
  encodeEvent(event),
  encodeTick(),
  encodeWatermark({ before: 1, time: 2 }),
  encodeResult({
    kind: 'result',
    effect: 'e'.repeat(36),
    input: 'i'.repeat(16),
    done: true,
    tries: 1,
    ms: 12,
    text: '1',
  }),
  encodeControl({
    generation: 0,
    control: { type: 'version', number: 0, version: 'a'.repeat(64), rules: 1 },
  }),
]

fuzz('a record', bytesNear(...records), (bytes) => {
  decodeRecord(bytes)
  eventIn(bytes)
})

const lineage = { logId: Buffer.alloc(16, 7), partition: 1 }
const batch = (() => {
  const total = batchBytes(2, records[0]!.length + records[2]!.length)
  const bytes = Buffer.alloc(total)
  const at = writeRecord(bytes, headerBytes, records[0]!)
  writeRecord(bytes, at, records[2]!)
  const header = {
    ...{ flags: 0, epoch: 1, baseOffset: 0, durableOffset: 0, decided: 0, nonce: Buffer.alloc(8, 1) },
    ...{ time: 5, count: 2, payloadBytes: total - headerBytes },
  }
  writeHeader(bytes, lineage, header, Buffer.alloc(32))
  return bytes
})()

fuzz('a batch', bytesNear(batch), (bytes) => {
  const header = readHeader(bytes, 0, lineage)
  if (header === undefined || !payloadIsWhole(bytes, 0, header)) return
  const found = recordsOf(bytes, 0, header)
  // A checksum over all of it: whatever is read is what was written.
  assert.deepEqual(found?.views().map(String), [records[0], records[2]].map(String))
})

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const head = signHead(privateKey, {
  logId: 'ab'.repeat(16),
  time: 5,
  partitions: [{ size: 1, root: 'cd'.repeat(32) }],
})

fuzz('a signed head', textsNear(headLine(head)), (text) => {
  parseHead(text)
})

const receipt = {
  format: 'hence-receipt',
  version: 1,
  partition: 0,
  offset: 0,
  record: 'AA==',
  path: [],
  head,
}
const growth = { format: 'hence-consistency', version: 1, later: head, paths: [[]] }
const json = (text: string) => parseStrict(text)

fuzz('a receipt', textsNear(JSON.stringify(receipt)), (text) => {
  checkReceipt(publicKey, json(text))
})

fuzz(
  'a proof of growth',
  fc.tuple(textsNear(headLine(head)), textsNear(JSON.stringify(growth))),
  ([a, b]) => {
    checkConsistency(publicKey, json(a), json(b))
  },
)

fuzz('a receipt of any JSON', fc.jsonValue(), (value) => {
  checkReceipt(publicKey, value)
})

fuzz('a proof of any JSON', fc.tuple(fc.jsonValue(), fc.jsonValue()), ([a, b]) => {
  checkConsistency(publicKey, a, b)
})

fuzz(
  'strict JSON',
  bytesNear(Buffer.from('{"a":[1,-2.5e3,"\\ud83d\\ude00",{"b":null}],"c":"ä"}')),
  (bytes) => {
    const text = textOf(bytes)
    assert.deepEqual(parseStrict(text), JSON.parse(text))
  },
)

fuzz('a cursor', textsNear('WzEsImEiXQ', 'W10'), (text) => {
  readCursor(text, {})
})

fuzz('an idempotency key', textsNear('"a1"', 'a1', '"a\\"b"; x=1'), (text) => {
  const value = text.replaceAll(/[^\x20-\x7e]/g, '')
  idIn(new Headers({ 'idempotency-key': value }), 'idempotency-key')
})
