import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withinLimit } from './watchdog.ts'

// The worst fault: a ruling, which is for ever, on code that would have ended at once.

test('code that does not end is ended, and the next act runs', { timeout: 60_000 }, async () => {
  const took = withinLimit(50, () => {
    for (;;);
  })
  let didRun = false
  const next = withinLimit(60_000, () => {
    didRun = true
  })
  assert.equal(await took, undefined)
  assert.ok((await next) !== undefined && didRun)
})

test('a process that gets no processor has used no time', { timeout: 60_000 }, async () => {
  // As one that is suspended, or that others keep from the processor.
  const standStill = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500)
  const took = await withinLimit(500, standStill)
  assert.notEqual(took, undefined)
})
