import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EventRecord } from '../log/record.ts'
import { Channels } from './channels.ts'

// The log of a target, as it comes from the disk, against the events that its source has derived.

const event = {
  ...{ generation: 0, causePartition: 1, causeOffset: 9, rootPartition: 1, rootOffset: 9, identity: 'x1\0' },
  ...{ depth: 1, type: 'paid', version: 1, key: 'k', id: '0123456789abcdef', data: '{"cents":7}' },
  kind: 'event',
} as const

/** Channels between two partitions, in which partition 1 has sent so many events to partition 0. */
function sent(count: number): { channels: Channels; events: EventRecord[] } {
  const channels = new Channels(0, 2)
  const events = Array.from({ length: count }, () => channels.send(1, 0, event))
  return { channels, events }
}

test('events of a channel are applied once and in their order, however often the log has them', () => {
  const { channels, events } = sent(3)
  for (const each of [events[0]!, events[0]!, events[1]!, events[0]!, events[1]!, events[2]!]) {
    const applied = channels.arrive(0, each, true)
    assert.equal(applied, channels.waitingFor(0).includes(each) ? each : undefined)
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
