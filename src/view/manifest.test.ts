import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storeOf } from './fold.ts'
import { readViewsManifest } from './manifest.ts'

test('a manifest in which a bit flips names views, or none', async () => {
  const entry = { name: 'by-sku', version: 'a'.repeat(64), generation: 0, sql: 'bySku' }
  const text = JSON.stringify({ answering: [entry], building: [entry] })
  for (let bit = 0; bit < 8 * text.length; bit++) {
    const bytes = Buffer.from(text)
    bytes[bit >> 3]! ^= 1 << (bit & 7)
    const { answering, building } = await readViewsManifest(async () => bytes.toString())
    for (const each of [...answering, ...building]) assert.match(storeOf(each), /^view\./)
  }
})
