import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomFrom } from '../../test/random.ts'
import type { EventRecord, RequestRecord } from '../log/record.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { Channels } from './channels.ts'
import { Completion } from './completion.ts'
import { DerivedEventOrder } from './derived-order.ts'
import type { DueMessage, RecordedEvent } from './event-order.ts'

// Messages of a generation that is not live, dropped from memory and started anew at any time, against the
// same ones in memory.

const partitions = 3

function orderIn(state: State, bytesMax?: number) {
  const completion = new Completion([0, 0, 0], () => false)
  const channels = new Channels(state, 1, partitions, completion)
  return {
    state,
    completion,
    order: new DerivedEventOrder(state, 1, partitions, channels, completion, bytesMax),
  }
}

const requestOf = (identity: string): RequestRecord => ({
  ...{ kind: 'request', identity, type: 'go', version: 1 },
  ...{ input: '{"far":true}', output: undefined },
})

for (let seed = 1; seed <= 30; seed++) {
  test(`messages that are dropped from memory are applied as if they had stayed, seed ${seed}`, async () => {
    const random = randomFrom(seed)
    const below = (most: number) => Math.floor(random() * most)
    const store = memoryStore()
    const memory = orderIn(new State(memoryStore()))
    let spilled = orderIn(new State(store), 2_000)
    const both = <T>(act: (each: typeof memory) => T): T => {
      const [a, b] = [act(memory), act(spilled)]
      assert.deepEqual(b, a)
      return a
    }
    /** By target: places in the log that were noted and not passed, in order. */
    const places: RecordedEvent[][] = Array.from({ length: partitions }, () => [])
    const times = Array.from({ length: partitions }, () => 0)
    let time = 1
    let dropped = 0
    const applyIn = ({ completion }: typeof memory) => {
      const texts: string[] = []
      const apply = ({ record, root, ...at }: DueMessage) => {
        if (record.kind === 'event') completion.applied(record.rootPartition, record.rootOffset)
        texts.push(JSON.stringify([at, root, record.kind === 'event' ? record.id : record]))
      }
      return { texts, apply }
    }
    const due = (before: number) =>
      both((each) => {
        const { texts, apply } = applyIn(each)
        const isDue = each.order.isDue(before, (partition) => times[partition]!)
        const count = each.order.applyDue(before, (partition) => times[partition]!, apply, 1)
        return { isDue, count, texts }
      })
    for (let n = 0; n < 600; n++) {
      time += below(2)
      const [source, target] = [below(partitions), below(partitions)]
      const event = {
        kind: 'event',
        ...{ generation: 1, identity: 'x1\0', depth: 1, type: 'told', version: 1, key: 'k' },
        ...{ id: `${n}`.padStart(16, '0'), data: JSON.stringify({ n }) },
        ...{ causePartition: source, causeOffset: n, rootPartition: source, rootOffset: n },
      } as const
      if (below(2) === 0) {
        places[target]!.push(event)
        both(({ order }) => order.noteRecorded(target, event))
      }
      if (below(10) === 0) {
        const root = { partition: source, offset: n }
        const message = { ...root, root, time, target, record: requestOf(`${n}`) }
        both(({ order }) => order.move(source, message))
      }
      both(({ order }) => order.send(source, target, event, time))
      // In the long run as many leave as come.
      if (n % 200 > 100)
        for (let passed = 0; passed < 2; passed++) {
          const at = below(partitions)
          const place = places[at]!.shift()
          if (place === undefined) continue
          times[at] = time
          const recorded = { ...place, generation: 0, channelNumber: 0 } as EventRecord
          both((each) => {
            const { order, completion } = each
            const { texts, apply } = applyIn(each)
            const found = order.arrive(at, recorded, true)
            assert.notEqual(found, 'early')
            if (found !== undefined) order.applyAhead(at, recorded, time, apply)
            order.passed(at, recorded, found as EventRecord | undefined)
            if (found !== undefined) completion.applied(recorded.rootPartition, recorded.rootOffset)
            return [texts, found]
          })
        }
      if (below(30) === 0) due(time)
      if (below(20) > 0) continue
      spilled.order.flush()
      const saved = spilled.order.save()
      spilled.state.commit()
      await spilled.state.checkpoint()
      assert.ok(spilled.order.heldBytes <= 2_000, `${spilled.order.heldBytes}`)
      if (spilled.order.heldBytes === 0) dropped++
      if (below(3) > 0) continue
      spilled = orderIn(new State(store), 2_000)
      spilled.order.restore(saved)
      for (const [target, events] of places.entries())
        for (const each of events) spilled.order.noteRecorded(target, each)
    }
    assert.ok(dropped > 3, `${dropped}`)
    assert.deepEqual([...spilled.order.texts()], [...memory.order.texts()])
    for (let left = true; left; left = due(Number.POSITIVE_INFINITY).isDue);
    both(({ order, completion }) => assert.ok(order.isEmpty && completion.isEmpty))
    spilled.order.flush()
    spilled.state.commit()
    await spilled.state.checkpoint()
    assert.deepEqual([...store.range('placing')], [])
  })
}
