import assert from 'node:assert/strict'
import { test } from 'node:test'
import { v7 } from 'uuid'
import { identityOf } from '../identity.ts'
import { memoryStore } from '../state/memory-store.ts'
import { inOnePiece } from '../state/pieces.ts'
import { State } from '../state/state.ts'
import { Outcomes } from './outcomes.ts'

const saved = (state: State) => {
  state.commit()
  return state.checkpoint()
}

test('a reply is forgotten with its outcome', async () => {
  const state = new State(memoryStore())
  const outcomes = new Outcomes(state)
  const stored = { partition: 0, offset: 1, fingerprint: 'f'.repeat(16), inReplyTo: 'r1' }
  const [old, young] = [1_000, 2_000].map((msecs) => identityOf(v7({ msecs }), 'ann'))
  for (const identity of [old!, young!])
    outcomes.set(identity, { ...stored, outcome: { status: 'accepted', value: null } })
  assert.deepEqual(outcomes.get(old!)?.inReplyTo, 'r1')
  assert.deepEqual([...outcomes.repliesTo('r1')], [old, young])
  assert.deepEqual([...outcomes.repliesTo('r')], [])
  await saved(state)
  inOnePiece(outcomes.forget(1_500, 10))
  assert.deepEqual([...outcomes.repliesTo('r1')], [young])
})

test('outcomes are forgotten piece by piece, each once, and no more than so many', async () => {
  const state = new State(memoryStore())
  const outcomes = new Outcomes(state)
  const stored = { partition: 0, offset: 1, fingerprint: 'f'.repeat(16) }
  for (let n = 0; n < 1_000; n++)
    outcomes.set(identityOf(v7({ msecs: 1_000 + n }), 'ann'), {
      ...stored,
      outcome: { status: 'accepted', value: null },
    })
  await saved(state)
  const left = () => [...outcomes.kept(0)].length
  const forgotten = () => state.dirtyBytes / identityOf(v7(), 'ann').length
  const counts: number[] = []
  for (const _ of outcomes.forget(1_900, 800)) counts.push(forgotten())
  assert.deepEqual([...counts, forgotten(), left()], [256, 512, 768, 800, 1_000])
  inOnePiece(outcomes.forget(1_900, 800))
  assert.equal(forgotten(), 800)
  await saved(state)
  assert.equal(left(), 200)
  inOnePiece(outcomes.forget(1_900, 800))
  await saved(state)
  assert.equal(left(), 100)
})
