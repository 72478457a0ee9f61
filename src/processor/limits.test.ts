import assert from 'node:assert/strict'
import { test } from 'node:test'
import { elapsedMs } from '../sandbox/timed.ts'
import { applyGroup } from './limits.ts'

test('records that take long together, but not alone, are applied in several groups', async () => {
  const limitMs = 400
  const interrupted = {
    interruption: () => new Error('They were applied under one limit.') as never,
    checkpointsDirty: () => 0,
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

test('records that change much are applied in several groups, so that a checkpoint can come between', async () => {
  let dirty = 0
  const processor = {
    interruption: () => new Error('They were interrupted.') as never,
    checkpointsDirty: () => dirty,
  }
  const groups: number[] = []
  const apply = () => {
    dirty += 0.1
    return true
  }
  for (let left = 20; left > 0; left -= groups.at(-1)!)
    groups.push(await applyGroup(processor, left, 60_000, apply))
  assert.deepEqual(groups, [3, 3, 3, 3, 3, 3, 2])
})
