import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventId, RandomStream, requestSeed } from './seed.ts'

test('equal seeds give equal streams, different seeds different ones', () => {
  const draw = (seed: string) => {
    const stream = new RandomStream(seed)
    return [stream.number(), stream.uuid(), stream.number(), stream.uuid()]
  }
  assert.deepEqual(draw('a'), draw('a'))
  const all = [...draw('a'), ...draw('b')]
  assert.equal(new Set(all).size, all.length)
})

test('a long stream is evenly distributed within its bounds', () => {
  const stream = new RandomStream('seed')
  const buckets = new Array(10).fill(0)
  for (let i = 0; i < 100_000; i++) {
    const number = stream.number()
    assert.ok(number >= 0 && number < 1)
    buckets[Math.floor(number * 10)]++
  }
  // Ten equal buckets have a standard deviation of 95; a broken generator is thousands off.
  for (const count of buckets) assert.ok(Math.abs(count - 10_000) < 600, `${buckets}`)
})

test('a UUID has the version and variant of RFC 9562, version 8', () => {
  const stream = new RandomStream('seed')
  for (let i = 0; i < 100; i++) {
    assert.match(stream.uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  }
})

test('seeds are as in existing logs', () => {
  // Pinned: any other value would make every replay of an existing log diverge.
  const hex = (id: string) => Buffer.from(id, 'latin1').toString('hex')
  const root = requestSeed('00112233445566778899aabbccddeeff', 'xorder-1\0ann')
  assert.equal(hex(root), 'e688dfaf2ebfe21612523aab4856cc6d')
  assert.equal(hex(eventId(root, 'sold', 0)), 'fce54aa57853da6d0caa3f50f305f57c')
  assert.equal(hex(eventId(root, 'sold', 'mug')), '5b9b7fc2240754d5f880f6671eefffaa')
  assert.equal(new RandomStream(root).uuid(), '6c72a57c-f19d-81ac-b7d9-b0a481bbb070')
})

test('the id of an event depends on its type, ordinal and key', () => {
  const ids = [
    eventId('p', 'sold', 0),
    eventId('p', 'sold', 1),
    eventId('p', 'sold', '0'),
    eventId('p', 'bought', 0),
    eventId('q', 'sold', 0),
  ]
  assert.equal(new Set(ids).size, ids.length)
})
