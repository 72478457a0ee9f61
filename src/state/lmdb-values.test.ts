import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checksumLength } from './checksum.ts'
import { Encoding } from './lmdb-values.ts'

test('values of later writes are as given, in the large buffers of earlier ones', () => {
  const encoding = new Encoding()
  const before = new Set<ArrayBufferLike>()
  for (let round = 0; round < 3; round++) {
    const made: { readonly value: string; readonly bytes: Buffer }[] = []
    for (let i = 0; i < 30_000; i++) {
      const value = `${round} ${i} ${'x'.repeat(i % 200)}`
      const { buffer, start, end } = encoding.encode(0, value)
      made.push({ value, bytes: Buffer.from(buffer, start, end - start) })
    }
    for (const { value, bytes } of made)
      assert.equal(bytes.toString('utf8', 0, bytes.length - checksumLength), value)
    const again = made.filter(({ bytes }) => before.has(bytes.buffer))
    assert.equal(again.length > made.length / 2, round > 0, `${again.length} of ${made.length}`)
    for (const { bytes } of made) before.add(bytes.buffer)
    encoding.clear()
  }
})
