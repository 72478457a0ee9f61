import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { HandClock, settle } from '../../test/hand-clock.ts'
import type { Report } from '../report.ts'
import { type SignedHead, signHead } from './head.ts'
import { type Publish, Publisher } from './publisher.ts'

// A receiver that is down, slow or hangs must cost the engine nothing, and must get the newest head once it
// is back.

const { privateKey } = generateKeyPairSync('ed25519')

function headOf(size: number): SignedHead {
  const partitions = [{ size, root: '0'.repeat(64) }]
  return signHead(privateKey, { logId: '0'.repeat(32), time: size, partitions })
}

function publisherOf(publish: Publish) {
  const reports: Report[] = []
  const clock = new HandClock()
  const publisher = new Publisher({
    publish,
    clock,
    report: (each) => void reports.push(each),
  })
  return { publisher, clock, reports: () => reports.map(({ level, code }) => `${level} ${code}`) }
}

/** A receiver that works or fails, and the sizes of the heads that it received. */
function receiver() {
  const shown: number[] = []
  const state = { error: undefined as Error | undefined, tries: 0 }
  const publish: Publish = ({ partitions }) => {
    state.tries++
    if (state.error) throw state.error
    shown.push(partitions[0]!.size)
  }
  return { shown, state, publish }
}

test('after an outage the newest head is published; its beginning and its end are each reported once', async () => {
  const { shown, state, publish } = receiver()
  const { publisher, clock, reports } = publisherOf(publish)
  publisher.offer(headOf(1))
  await settle()
  state.error = new Error('it is down')
  const delays: number[] = []
  for (let size = 2; size < 100; size++) {
    publisher.offer(headOf(size))
    await settle()
    // A new head during an outage does not bring an extra try.
    assert.equal(state.tries, size)
    delays.push(clock.next)
    clock.pass(clock.next)
    await settle()
  }
  assert.deepEqual(
    delays.slice(0, 8),
    [1, 2, 4, 8, 16, 32, 60, 60].map((s) => s * 1000),
  )
  assert.deepEqual([shown, reports()], [[1], ['warning heads-not-published']])
  state.error = undefined
  clock.pass(60_000)
  await settle()
  assert.deepEqual(shown, [1, 99])
  assert.deepEqual(reports(), ['warning heads-not-published', 'warning heads-published-again'])
  state.error = new Error('again')
  publisher.offer(headOf(100))
  await settle()
  assert.equal(clock.next, 1000)
  assert.equal(reports().length, 3)
  await publisher.close()
  assert.deepEqual([state.tries, shown.length], [103, 2])
})

test('during a call only the newest head waits', async () => {
  const shown: number[] = []
  const calls: PromiseWithResolvers<void>[] = []
  const { publisher, reports } = publisherOf(({ partitions }) => {
    shown.push(partitions[0]!.size)
    calls.push(Promise.withResolvers())
    return calls.at(-1)!.promise
  })
  for (let size = 1; size <= 50; size++) publisher.offer(headOf(size))
  await settle()
  assert.deepEqual(shown, [1])
  for (let size = 51; size <= 90; size++) publisher.offer(headOf(size))
  await settle()
  assert.deepEqual(shown, [1])
  calls[0]!.resolve()
  await settle()
  assert.deepEqual(shown, [1, 90])
  const closed = publisher.close()
  calls[1]!.resolve()
  await closed
  publisher.offer(headOf(91))
  await settle()
  assert.deepEqual([shown.length, reports()], [2, []])
})

test('a close publishes the waiting head, tries a receiver that is down once more, and waits a second at most', async () => {
  const { shown, state, publish } = receiver()
  const { publisher } = publisherOf(publish)
  state.error = new Error('it is down')
  publisher.offer(headOf(1))
  await settle()
  publisher.offer(headOf(2))
  state.error = undefined
  await publisher.close()
  assert.deepEqual(shown, [2])

  let signal: AbortSignal | undefined
  const hanging = publisherOf((_, given) => {
    signal = given
    return new Promise(() => {})
  })
  hanging.publisher.offer(headOf(1))
  hanging.publisher.offer(headOf(2))
  const closing = hanging.publisher.close()
  await settle()
  hanging.clock.pass(1_000)
  await closing
  assert.ok(signal?.aborted)
  assert.deepEqual(hanging.reports(), ['warning heads-not-published'])
})

test('a call that takes too long is aborted and reported, and no other begins before it is over', async () => {
  const calls: { readonly signal: AbortSignal; readonly ends: PromiseWithResolvers<void> }[] = []
  const { publisher, clock, reports } = publisherOf((_, signal) => {
    calls.push({ signal, ends: Promise.withResolvers() })
    return calls.at(-1)!.ends.promise
  })
  publisher.offer(headOf(1))
  clock.pass(9_999)
  assert.ok(!calls[0]!.signal.aborted)
  clock.pass(1)
  assert.ok(calls[0]!.signal.aborted)
  await settle()
  assert.deepEqual(reports(), ['warning heads-not-published'])
  publisher.offer(headOf(2))
  clock.pass(1e6)
  await settle()
  assert.equal(calls.length, 1)
  calls[0]!.ends.resolve()
  await settle()
  clock.pass(clock.next)
  await settle()
  assert.equal(calls.length, 2)
  calls[1]!.ends.resolve()
  await settle()
  assert.equal(reports().length, 2)
  await publisher.close()
})
