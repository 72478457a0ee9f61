import assert from 'node:assert/strict'
import { test } from 'node:test'
import { elapsedMs } from '../sandbox/timed.ts'
import { applyGroup } from './limits.ts'

test('records that take long together, but not alone, are applied in several groups', async () => {
  const limitMs = 400
  const interrupted = {
    interruption: () => new Error('They were applied under one limit.') as never,
  }
  let applied = 0
  const apply = () => {
    // The later ones are slow.
    for (const until = elapsedMs() + (applied++ < 1_000 ? 0 : 10); elapsedMs() < until; );
    return true
  }
  for (let left = 1_100; left > 0; ) left -= await applyGroup(interrupted, left, limitMs, apply)
  assert.equal(applied, 1_100)
})
