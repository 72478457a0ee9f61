import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EventRecord } from '../log/record.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { Channels } from './channels.ts'
import { Completion } from './completion.ts'

// The log of a target, as it comes from the disk, against the events that its source has derived.

const event = {
  ...{ generation: 0, causePartition: 1, causeOffset: 9, rootPartition: 1, rootOffset: 9, identity: 'x1\0' },
  ...{ depth: 1, type: 'paid', version: 1, key: 'k', id: '0123456789abcdef', data: '{"cents":7}' },
  kind: 'event',
} as const

function channelsIn(state: State, bytesMax?: number) {
  const completion = new Completion([0, 10_000], ({ partition, offset }) =>
    channels.hasDroppedFrom({ partition, offset }),
  )
  const channels = new Channels(state, 0, 2, completion, bytesMax)
  return { channels, completion }
}

/** Channels between two partitions, in which partition 1 has sent so many events to partition 0. */
function sent(count: number): { channels: Channels; events: EventRecord[] } {
  const { channels } = channelsIn(new State(memoryStore()))
  const events = Array.from({ length: count }, () => channels.send(1, 0, event, 0))
  return { channels, events }
}

test('events of a channel are applied once and in their order, however often the log has them', () => {
  const { channels, events } = sent(3)
  for (const each of [events[0]!, events[0]!, events[1]!, events[0]!, events[1]!, events[2]!]) {
    const applied = channels.arrive(0, each, true)
    assert.equal(applied, [...channels.waitingFor(0)].includes(each) ? each : undefined)
    channels.passed(0, each, applied as EventRecord | undefined)
  }
  assert.ok(channels.isEmpty)
})

test('an event that comes before another one of its channel stops the engine', () => {
  const { channels, events } = sent(2)
  assert.throws(() => channels.arrive(0, events[1]!, true), { code: 'channel-gap', advice: 'operator' })
})

test('an event of the log that was not derived, or derived otherwise, is a divergence', () => {
  const { channels, events } = sent(1)
  const divergence = { code: 'divergence', advice: 'operator' }
  const other = { ...events[0]!, data: '{"cents":8}' }
  assert.throws(() => channels.arrive(0, other, true), divergence)
  assert.throws(() => channels.arrive(0, { ...events[0]!, generation: 1 }, true), divergence)
  const none = sent(0).channels
  assert.throws(() => none.arrive(0, events[0]!, true), divergence)
  assert.equal(none.arrive(0, events[0]!, false), 'early')
})

test('a checkpoint writes no event that an earlier one has written, and keeps those that wait', async () => {
  const store = memoryStore()
  const state = new State(store)
  const { channels } = channelsIn(state)
  const events = Array.from({ length: 1_000 }, () => channels.send(1, 0, event, 0))
  const written: number[] = []
  const save = async () => {
    channels.flush()
    state.commit()
    written.push(state.dirtyCount)
    await state.checkpoint()
    const { channels: again } = channelsIn(new State(store))
    again.restore(channels.save())
    const waiting = [...channels.waitingFor(0)]
    assert.deepEqual([...again.waitingFor(0)], waiting)
    assert.deepEqual([...store.range('waiting')].length, waiting.length)
  }
  await save()
  for (const each of events.slice(0, 10))
    channels.passed(0, each, channels.arrive(0, each, true) as EventRecord)
  channels.send(1, 0, event, 0)
  await save()
  const short = channels.send(1, 0, event, 0)
  for (const each of [...channels.waitingFor(0)]) channels.passed(0, each, each)
  assert.equal(short.channelNumber, 1_001)
  await save()
  assert.deepEqual(written, [1_000, 11, 991])
  assert.ok(channels.isEmpty)
})

test('events that take too much memory are dropped by a checkpoint, and read again in their order', async () => {
  const state = new State(memoryStore())
  const { channels, completion } = channelsIn(state, 4_000)
  const save = () => {
    channels.flush()
    state.commit()
    return state.checkpoint()
  }
  const emitted: EventRecord[] = []
  const emit = (count: number) => {
    for (let n = 0; n < count; n++) {
      const at = { causeOffset: emitted.length, rootOffset: emitted.length }
      emitted.push(channels.send(1, 0, { ...event, ...at }, emitted.length))
    }
  }
  const isComplete = (n: number) => completion.isComplete(1, n)
  let applied = 0
  const apply = (count: number) => {
    for (const end = applied + count; applied < end; applied++) {
      // As it comes from the log: another object.
      const recorded = { ...emitted[applied]! }
      assert.equal(channels.oldestAt, applied)
      assert.equal(channels.arrive(0, recorded, true), recorded)
      assert.equal(isComplete(applied), false)
      channels.passed(0, recorded, recorded)
      completion.applied(1, applied)
      assert.ok(isComplete(applied))
    }
  }
  emit(10)
  await save()
  assert.equal(channels.hasDropped, false)
  const { heldBytes } = channels
  assert.equal(heldBytes, channels.bytes)
  for (let round = 1; round < 20; round++) {
    emit(100)
    assert.ok(channels.checkpointsDue > 1)
    apply(3)
    await save()
    assert.deepEqual([channels.heldBytes, channels.hasDropped, channels.checkpointsDue], [0, true, 0])
    assert.deepEqual([...channels.waitingFor(0)], emitted.slice(applied))
    apply(4)
    assert.ok(channels.heldBytes > 0 && channels.heldBytes <= 4_000, `${channels.heldBytes}`)
    for (const n of [applied, 100 * round, emitted.length - 1]) assert.equal(isComplete(n), false)
    emit(1)
    assert.equal(isComplete(emitted.length - 1), false)
    if (round % 6 === 0) apply(emitted.length - applied - 5)
  }
  apply(emitted.length - applied)
  assert.deepEqual([channels.bytes, channels.heldBytes, channels.hasDropped], [0, 0, false])
  assert.ok(channels.isEmpty && completion.isEmpty)
  assert.equal(channels.oldestAt, undefined)
})
