import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memoryStore } from '../state/memory-store.ts'
import { inOnePiece } from '../state/pieces.ts'
import { State } from '../state/state.ts'
import type { TracedDerivation } from './trace.ts'
import { Traces } from './traces.ts'

const derivation = (rootOffset: number): TracedDerivation => ({
  ...({ kind: 'request', type: 'pay', key: 'ann', rootPartition: 0, rootOffset } as const),
  ...{ changes: [], events: [], effects: [], failure: undefined },
})

test('chunks of traces are forgotten alike, whether this process has written them or not', async () => {
  const store = memoryStore()
  let state = new State(store)
  let traces = new Traces(state, 1)
  const add = (from: number, to: number) => {
    // Each record follows from the one before it.
    for (let offset = from; offset < to; offset++) {
      traces.gather(0, offset, offset, [derivation(Math.max(0, offset - 1))])
      traces.finish(0, offset, offset)
    }
  }
  const save = async () => {
    traces.flush()
    state.commit()
    await state.checkpoint()
  }
  const kept = () => [...traces.kept(0)].map(([, line]) => JSON.parse(line)[0] as number)
  add(0, 5_000)
  await save()
  state = new State(store.snapshot())
  const ofBefore = traces
  traces = new Traces(state, 1)
  add(5_000, 9_000)
  await save()
  for (const [before, limit, first] of [
    [1_500, 10_000, 1_024],
    [9_000, 1, 2_048],
    [6_000, 10_000, 5_000],
    [9_000, 2_000, 6_024],
    [8_999, 10_000, 8_072],
    [10_000, 10_000, 9_000],
  ] as const) {
    inOnePiece(traces.forget(0, before, limit))
    assert.equal(traces.keptFrom[0], first)
    assert.deepEqual(
      kept(),
      Array.from({ length: 9_000 - first }, (_, i) => first + i),
    )
    const root = { partition: 0, offset: first - 1 }
    assert.deepEqual(traces.family(root), [root])
    await save()
  }
  inOnePiece(ofBefore.forget(0, 4_000, 10_000))
  assert.equal(ofBefore.keptFrom[0], 3_072)
})
