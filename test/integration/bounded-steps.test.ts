import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Reply } from 'hence'
import { decodeRecord } from '../../src/log/record.ts'
import type * as made from '../apps/crowd.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import { CrashingStorage } from '../simulation/crashing-storage.ts'

// One message may have thousands of consequences: they are spread over steps of a bounded size, which the log
// decides, and other keys are served in between.

const { crowd } = appsOf<typeof made>(import.meta.resolve('../apps/crowd.ts'))

async function open(partitions: number) {
  let now = 1_790_000_000_000
  const clock = { now: () => now, alarm: () => () => {} }
  const storage = new CrashingStorage({
    partitions,
    clock,
    id: '0'.repeat(32),
    random: randomFrom(partitions),
  })
  const app = await crowd({ limit: 20_000 })
  const alarms: string[] = []
  const start = (isBare = false) =>
    createEngine({
      app,
      data: storage.open(isBare),
      clock,
      report: ({ level, message }) => level === 'alarm' && alarms.push(message),
    })
  let engine = await start()
  let sent = 0
  const send = (type: string, input: object, id = `r${sent++}`): Promise<Reply> =>
    engine.submit(type as never, input as never, { requestId: id }) as Promise<Reply>
  return {
    get engine() {
      return engine
    },
    alarms,
    now: () => now,
    pass: (ms: number) => {
      now += ms
    },
    send,
    all: (count: number, type: string, input: (n: number) => object) =>
      Promise.all(Array.from({ length: count }, (_, n) => send(type, input(n)))),
    /** Crashes, and derives everything again; the result must be the same. */
    async rebuilt() {
      const before = await engine.digest()
      storage.crash()
      engine = await start(true)
      assert.equal(await engine.digest(), before, 'derived again, the rows are others')
    },
    async crash() {
      storage.crash()
      engine = await start()
    },
    async records() {
      let count = 0
      for (let partition = 0; partition < partitions; partition++) {
        for await (const { records } of storage.log.read(partition, 0))
          for (const bytes of records) if (decodeRecord(bytes).kind !== 'control') count++
      }
      return count
    },
    states: async () => {
      const counts: Record<string, number> = {}
      for (const { value } of await engine.scan('guests'))
        counts[value.state] = (counts[value.state] ?? 0) + 1
      return counts
    },
    /** The most derivations that one record of a request's story had, and the position of the last record. */
    async steps(id: string, partition: number) {
      const sizes = new Map<string, number>()
      for (const { token } of (await engine.story(id))!.steps) sizes.set(token, (sizes.get(token) ?? 0) + 1)
      const offsets = [...sizes.keys()].map((token) => token.split(':').map(Number))
      return {
        most: Math.max(...sizes.values()),
        sum: [...sizes.values()].reduce((a, b) => a + b, 0),
        last: Math.max(...offsets.flatMap(([p, offset]) => (p === partition ? [offset!] : []))),
      }
    },
  }
}

const at = (reply: Reply) => reply.token.split(':').map(Number) as [partition: number, offset: number]

for (const partitions of [1, 2, 8]) {
  const on = `on ${partitions} partition${partitions > 1 ? 's' : ''}`

  test(`a limit that falls to 0 displaces all claims, in steps, and others are served meanwhile ${on}`, async () => {
    const count = 1_200
    const s = await open(partitions)
    await s.all(count, 'book', (n) => ({ guest: `g${n}`, show: 'a' }))
    const fallen = s.send('limit', { show: 'a', limit: 0 }, 'fall')
    const [partition] = at(await fallen)
    assert.deepEqual(await fallen, {
      ...(await fallen),
      value: { limit: 0, claimed: count, excess: count },
    })
    const other = await s.send('limit', { show: 'a', by: 0 })
    assert.equal((await s.send('book', { guest: 'late', show: 'a' })).status, 'rejected')
    await s.engine.idle()
    const { most, sum, last } = await s.steps('fall', partition)
    assert.ok(most <= 310, `one step had ${most} derivations`)
    assert.ok(sum <= 4 * count, `${sum} derivations for ${count} claims`)
    assert.ok(at(other)[1] < last, 'another request waited for all of them')
    const [violation, ...more] = await s.engine.violations.list()
    assert.deepEqual(more, [])
    assert.equal(violation!.state, 'resolved')
    assert.deepEqual(violation!.counts, { told: 0, compensated: count, released: 0, failed: 0, queued: 0 })
    assert.equal(violation!.victims.length, 100)
    const { victims: _, ...row } = violation!
    assert.ok(JSON.stringify(row).length < 1_000, 'the row of a violation grows with its victims')
    assert.deepEqual(await s.states(), { sorry: count })
    await s.rebuilt()
    assert.deepEqual(s.alarms, [])
    await s.engine.close()
  })

  test(
    crashAt('any turn of the event loop', `all no-shows are settled, with an event each ${on}`),
    async () => {
      const count = partitions === 1 ? 12_000 : 1_200
      const s = await open(partitions)
      await s.all(count, 'book', (n) => ({ guest: `g${n}`, show: 'a' }))
      await s.all(150, 'confirm', (n) => ({ guest: `g${n}` }))
      await s.engine.idle()
      const settled = await s.send('settle', { show: 'a' }, 'settle')
      assert.deepEqual(settled, { ...settled, value: { units: count - 150 } })
      // It comes too late, although the claim may not have been released yet.
      await s.send('confirm', { guest: `g${count - 1}` })
      assert.deepEqual(await s.engine.violations.usage('seats', 'a'), {
        limit: 20_000,
        claimed: 150,
        excess: 0,
      })
      // A claim that comes meanwhile is none of those.
      assert.equal((await s.send('book', { guest: 'late', show: 'a' })).status, 'accepted')
      await s.crash()
      await s.send('cancel', { guest: 'g0' })
      await s.engine.idle()
      assert.deepEqual(await s.states(), { gone: count - 150, booked: 151 })
      assert.equal((await s.engine.violations.usage('seats', 'a')).claimed, 150)
      const { most } = await s.steps('settle', at(settled)[0])
      assert.ok(most <= 310, `one step had ${most} derivations`)
      await s.rebuilt()
      assert.deepEqual(s.alarms, [])
      await s.engine.close()
    },
  )

  test(`thousands of timers that are due at once ${on}`, async () => {
    const s = await open(partitions)
    const due = s.now() + 1_000
    await s.all(1_500, 'wake', (n) => ({ guest: `g${n}`, at: due, bells: 1 }))
    await s.send('wake', { guest: 'many', at: due, bells: 1_500 })
    // This sets one of them anew.
    await s.send('wake', { guest: 'many', at: due + 1_000, bells: 1 })
    await s.send('book', { guest: 'many', show: 'many' })
    s.pass(1_500)
    const before = await s.records()
    const seen = Promise.all(['g1499', 'many', 'many', 'g0'].map((guest) => s.send('look', { guest })))
    const limit = s.send('limit', { show: 'many', limit: 0 }, 'limit')
    const other = await s.send('look', { guest: 'other' })
    const records = (await s.records()) - before
    if (partitions === 1) assert.ok(records < 20, `${records} records came before that of another key`)
    assert.equal(other.status, 'accepted')
    // Whatever comes for a key comes after its timers, and only after its own.
    assert.deepEqual(
      (await seen).map((reply) => 'value' in reply && (reply.value as { rang: number }).rang),
      [1, 1_499, 1_499, 1],
    )
    await limit
    await s.engine.idle()
    assert.equal((await s.engine.get('guests', ['many']))?.state, 'sorry')
    const rang = (await s.engine.scan('guests')).reduce((sum, { value }) => sum + value.rang, 0)
    assert.equal(rang, 2_999)
    const ticks = (await s.records()) - before
    assert.ok(ticks < 90, `${ticks} records for 3,000 timers`)
    s.pass(1_000)
    const last = await s.send('look', { guest: 'many' })
    assert.deepEqual(last, { ...last, value: { rang: 1_500 } })
    await s.rebuilt()
    assert.deepEqual(s.alarms, [])
    await s.engine.close()
  })
}
