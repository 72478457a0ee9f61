import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/counting.ts'
import { appsOf } from '../../test/apps.ts'
import { createEngine } from '../index.ts'
import type { Batch, Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import type { EventRecord } from '../log/record.ts'
import { type MemoryStore, memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { memoryStorage } from '../testing/index.ts'
import { Channels } from './channels.ts'
import { type Checkpoint, checkCheckpoint } from './checkpoint.ts'
import { Completion } from './completion.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/counting.ts'))
const counting = await apps.counting()

// State and log come from outside, and each must be refused when it contradicts itself or the other.

const believes = (belief: RegExp) => ({ code: 'assertion-failed', advice: 'operator', message: belief })

/** Storage that holds a few requests and a checkpoint of them. */
async function filled() {
  const data = memoryStorage()
  const stores: MemoryStore[] = []
  const watched = {
    ...data,
    async openStore(...given: Parameters<typeof data.openStore>) {
      const store = await data.openStore(...given)
      stores.push(store as MemoryStore)
      return store
    },
  }
  const engine = await createEngine({ app: counting, data: watched, report: () => {} })
  for (const requestId of ['1', '2', '3']) await engine.submit('add', {}, { requestId })
  await engine.close()
  const saved = JSON.parse(stores.at(-1)!.get('meta', 'checkpoint')!) as Checkpoint
  return { data, saved, store: stores.at(-1)! }
}

const contradictions: readonly [change: (saved: Checkpoint) => object, belief: RegExp][] = [
  [() => ({ logId: 'f'.repeat(32) }), /belongs to the log/],
  [() => ({ generation: 7 }), /belongs to the generation/],
  [() => ({ times: [] }), /has every partition/],
  [() => ({ positions: [-1] }), /a position is an offset/],
  [() => ({ feedFrom: [1_000] }), /traced from a record on that was applied/],
  [({ time }) => ({ times: [time + 1] }), /no partition is later/],
  [() => ({ placing: [{ source: 0, target: 0, messages: [] }] }), /no more messages are applied/],
  [() => ({ history: [{ number: 1 }] }), /numbered without gaps/],
]
test('a checkpoint that contradicts itself is refused', async () => {
  const { saved } = await filled()
  checkCheckpoint(saved, saved.logId, 0, 1)
  for (const [change, belief] of contradictions) {
    const changed = { ...saved, ...change(saved) }
    assert.throws(() => checkCheckpoint(changed, saved.logId, 0, 1), believes(belief), String(belief))
  }
})

test('an engine does not open a state whose checkpoint contradicts itself', async () => {
  const { data, saved, store } = await filled()
  await store.write([['meta', new Map([['checkpoint', JSON.stringify({ ...saved, times: [] })]])]] as never)
  await assert.rejects(
    createEngine({ app: counting, data, report: () => {} }),
    believes(/a checkpoint has every partition/),
  )
})

const spoilt: readonly [spoil: (batch: Batch) => object, belief: RegExp][] = [
  [({ offset }) => ({ offset: offset + 1 }), /leave no gap/],
  [({ time }) => ({ time: time - 60_000 }), /never goes back/],
]
function bound(log: Log, name: keyof Log): unknown {
  const value: unknown = log[name]
  return typeof value === 'function' ? value.bind(log) : value
}

test('a log that skips an offset or goes back in time is not replayed', async () => {
  for (const [spoil, belief] of spoilt) {
    const log = memoryLog({ partitions: 1 })
    const { data } = await filled()
    for await (const { records } of data.log.read(0, 0)) await log.append(0, records)
    const read: Log['read'] = async function* (partition, from) {
      let count = 0
      for await (const batch of log.read(partition, from)) {
        yield count++ === 1 ? { ...batch, ...spoil(batch) } : batch
      }
    }
    const spoiling = new Proxy(log, {
      get: (_, name: keyof Log) => (name === 'read' ? read : bound(log, name)),
    })
    await assert.rejects(
      createEngine({ app: counting, data: { ...memoryStorage(), log: spoiling }, report: () => {} }),
      believes(belief),
    )
  }
})

test('a request cannot have fewer than no events under way', () => {
  const completion = new Completion([1], () => false)
  completion.emitted(0, 0)
  completion.applied(0, 0)
  assert.ok(completion.isEmpty)
  assert.throws(() => completion.applied(0, 0), believes(/no more events .* than were emitted/))
})

test('a saved channel that lacks an event is refused, as is an event from no partition', () => {
  const channels = new Channels(new State(memoryStore()), 0, 2, new Completion([0, 0], () => false))
  channels.restore([{ source: 0, target: 1, next: 3, applied: 1, bytes: 7 }])
  assert.throws(() => channels.at(0, 1, 1), believes(/sent and not applied/))
  const event = { generation: 0, causePartition: 2, channelNumber: 0 } as EventRecord
  assert.throws(() => channels.arrive(1, event, true), believes(/stands in a partition of the log/))
})
