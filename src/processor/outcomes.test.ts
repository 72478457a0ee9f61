import assert from 'node:assert/strict'
import { test } from 'node:test'
import { v7 } from 'uuid'
import { identityOf } from '../identity.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { Outcomes } from './outcomes.ts'

test('a reply is forgotten with its outcome', () => {
  const outcomes = new Outcomes(new State(memoryStore()))
  const stored = { partition: 0, offset: 1, fingerprint: 'f'.repeat(16), inReplyTo: 'r1' }
  const [old, young] = [1_000, 2_000].map((msecs) => identityOf(v7({ msecs }), 'ann'))
  for (const identity of [old!, young!])
    outcomes.set(identity, { ...stored, outcome: { status: 'accepted', value: null } })
  assert.deepEqual(outcomes.get(old!)?.inReplyTo, 'r1')
  assert.deepEqual([...outcomes.repliesTo('r1')], [old, young])
  assert.deepEqual([...outcomes.repliesTo('r')], [])
  outcomes.forget(1_500, 10)
  assert.deepEqual([...outcomes.repliesTo('r1')], [young])
})
