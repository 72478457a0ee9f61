import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createEngine, type Engine, type HenceError } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../../examples/airline/airline.ts'
import { partitionOf } from '../../src/log/partitions.ts'
import { appsOf } from '../../test/apps.ts'
import { CutStorage } from '../../test/cut-log.ts'

// The line to the partition where the seats of a flight are counted is cut: loose bookings go on, and are
// judged afterwards; strict ones get an answer.

const { airline } = appsOf<typeof made>(import.meta.resolve('../../examples/airline/airline.ts'))
type Airline = ReturnType<typeof made.airline>
const partitions = 4
const judge = partitionOf('HE1', partitions)
const names = Array.from({ length: 2_000 }, (_, n) => `b${n}`).filter(
  (name) => partitionOf(name, partitions) !== judge,
)

// Most of what waits does not fit into memory.
const queueBytesMax = 24 * 1024
const waitingBytesMax = 96 * 1024

async function open(t: TestContext, mode: 'loose' | 'strict', seats: number) {
  const cut = new CutStorage(memoryStorage({ partitions }))
  const app = await airline(mode, { percent: 0 })
  const bound = { queueBytesMax, waitingBytesMax }
  const start = async () => {
    const engine = await createEngine<Airline>({ app, data: cut.storage, report: () => {}, ...bound })
    t.after(() => {
      cut.mend()
      return engine.close()
    })
    return engine
  }
  const engine = await start()
  await engine.submit('open-flight', { flight: 'HE1', seats }, { requestId: 'open' })
  return { cut, engine, start }
}

const book = (engine: Engine<Airline>, booking: string) =>
  engine.submit('book', { booking, flight: 'HE1', fare: 'saver' }, { requestId: booking, principal: booking })

/** Sends a request until it is decided. */
async function decided(engine: Engine<Airline>, booking: string): ReturnType<typeof book> {
  for (;;) {
    try {
      return await book(engine, booking)
    } catch (error) {
      if ((error as HenceError).code !== 'not-decided-yet') throw error
    }
  }
}

for (const silent of [false, true]) {
  const how = silent ? 'unanswered' : 'failing'

  test(`${how} appends: loose claims wait within a bound, and are judged once afterwards`, async (t) => {
    const { cut, engine: first, start } = await open(t, 'loose', 100)
    let engine = first
    cut.cut(judge, silent)
    // Each is answered while nothing can be judged, until as many bytes wait as may.
    let taken = 0
    let refused: unknown
    while (refused === undefined) {
      const reply = await book(engine, names[taken]!).catch((error) => {
        refused = error
      })
      if (reply) assert.equal(reply.status, 'accepted')
      if (reply) taken++
    }
    assert.equal((refused as HenceError).code, 'overloaded')
    assert.match((refused as HenceError).message, /the limit is 98304 bytes/)
    const { waitingBytes, heldBytes, unwrittenMs } = engine.stats()
    assert.ok(taken > 300, `${taken}`)
    assert.ok(waitingBytes > waitingBytesMax && waitingBytes < waitingBytesMax + 1024, `${waitingBytes}`)
    assert.ok(heldBytes < queueBytesMax, `${heldBytes}`)
    assert.ok(unwrittenMs > 0)
    // One that was sent before has its answer still.
    assert.equal((await book(engine, names[0]!)).replayed, true)

    if (!silent) {
      // The next engine derives the same claims again, and they wait in it.
      await engine.close().catch(() => {})
      engine = await start()
      await assert.rejects(book(engine, names[taken]!), { code: 'overloaded' })
      const again = engine.stats()
      assert.equal(again.waitingBytes, waitingBytes)
      assert.ok(again.heldBytes < queueBytesMax, `${again.heldBytes}`)
      assert.ok(again.unwrittenMs >= unwrittenMs, `${again.unwrittenMs} after ${unwrittenMs}`)
    }
    cut.mend()
    await engine.idle()
    assert.equal(engine.stats().waitingBytes, 0)
    assert.equal((await book(engine, names[taken]!)).status, 'accepted')
    await engine.idle()
    // Every seat is taken, and everybody beyond them gets one apology.
    const rows = await engine.scan('bookings', {})
    const denied = rows.filter(({ value }) => value.state === 'denied')
    assert.deepEqual([rows.length, rows.length - denied.length], [taken + 1, 100])
    const rebooked = await engine.effects.list({ type: 'rebook', limit: 1_000 })
    const whose = new Set(rebooked.map(({ input }) => (input as { booking: string }).booking))
    assert.deepEqual([rebooked.length, whose.size], [denied.length, denied.length])
    const digest = await engine.digest()
    await engine.close()
    await cut.storage.dropStore(0)
    engine = await start()
    assert.equal(await engine.digest(), digest)
  })

  test(`${how} appends: strict requests are answered, and keep their ids`, async (t) => {
    const { cut, engine } = await open(t, 'strict', 5)
    cut.cut(judge, silent)
    const some = names.slice(0, 20)
    const told = await Promise.allSettled(some.map((name) => book(engine, name)))
    for (const each of told) {
      const { code, message } = (each as PromiseRejectedResult).reason
      assert.equal(code, 'not-decided-yet')
      assert.match(message, /since a partition of the log has not been written for a while\./)
    }
    // A retry is answered too, while the line is still cut.
    await assert.rejects(book(engine, some[0]!), { code: 'not-decided-yet', advice: 'retry' })
    const again = some.map((name) => decided(engine, name))
    cut.mend()
    const replies = await Promise.all(again)
    assert.equal(replies.filter(({ status }) => status === 'accepted').length, 5)
    assert.deepEqual(await book(engine, some[0]!), { ...replies[0], replayed: true })
  })
}
