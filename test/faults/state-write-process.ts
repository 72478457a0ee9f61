/** Writes to a store while strace makes a write of its file fail; reads and writes must go on. */
import assert from 'node:assert/strict'
import { HenceError } from 'hence'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'

const store = await openLmdbStore({ directory: process.argv[2]!, collections: ['rows'] })
let written = 0
let failed = 0
const entries = (round: number) =>
  Array.from({ length: 40 }, (_, row) => [`row ${row}`, `${round} `.repeat(100 * row)] as const)
const read = (of: Pick<typeof store, 'range'> = store) =>
  new Set([...of.range('rows')].map(([, text]) => Number.parseInt(text, 10)).filter((round) => round >= 0))

for (let round = 1; round <= 8; round++) {
  const saved = () => (written === 0 ? [] : [written])
  assert.deepEqual([...read()], saved())
  for (;;) {
    // As a derivation does it, also between a failure and its report.
    let isOver = false
    const writing = store.write([['rows', entries(round)]]).finally(() => {
      isOver = true
    })
    writing.catch(() => {})
    while (!isOver) {
      const [found] = read()
      assert.ok(found === round || found === (saved()[0] ?? undefined), `${found} while ${round} was written`)
      await new Promise(setImmediate)
    }
    try {
      await writing
      break
    } catch (error) {
      failed++
      assert.ok(!(error instanceof HenceError), String(error))
      const view = store.view()
      assert.deepEqual([...read(view)], [...read()])
      await new Promise((resolve) => setTimeout(resolve, 2))
      assert.deepEqual([...read(view)], [...read()])
      view.close()
    }
  }
  written = round
}
assert.deepEqual([...read()], [8])
await store.close()
console.log(JSON.stringify({ failed }))
