import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { HandClock, settle } from '../../test/hand-clock.ts'
import { app, scopes } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { partitionOf } from '../log/partitions.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

// Dev mode reports derivations that are not deterministic, and then goes on: a timer goes off once, and no
// request waits for ever.

let calls = 0
const [box, lock] = scopes('box', 'lock')
const taken = lock.unique('taken')
const boxes = box.table('boxes', { value: z.object({ count: z.int() }) })
const input = z.object({ box: z.string(), at: z.int() })
const ring = box.event('ring', { data: input, key: ({ box }) => box })
const set = box.request('set', {
  input,
  key: ({ box }) => box,
  derive(tx, input) {
    tx.schedule(ring, input, { at: input.at })
  },
})
const rung = box.on(ring, (tx) => tx.put(boxes, { count: ++calls }))
const take = box.request('take', {
  input: z.object({ box: z.string(), lock: z.string() }),
  key: ({ box }) => box,
  claims: ({ lock }) => [taken.claim(lock)],
  derive(tx) {
    tx.put(boxes, { count: ++calls })
  },
})
const house = app('house', {
  requests: [set, take],
  tables: [boxes],
  reactions: [rung],
  constraints: [taken],
})

test('a timer whose reaction is not deterministic goes off once', async () => {
  const clock = new HandClock()
  const alarms: string[] = []
  const data = memoryStorage({ clock })
  const engine = await createEngine({
    app: house,
    data,
    clock,
    check: true,
    report: ({ message }) => alarms.push(message),
  })
  await engine.submit('set', { box: 'a', at: clock.now() + 1_000 }, { requestId: '1' })
  for (let i = 0; i < 5; i++) {
    clock.pass(2_000)
    await settle()
  }
  assert.equal(engine.stats().nextTimerAt, undefined)
  assert.ok(await engine.get('boxes', ['a']))
  assert.equal(alarms.length, 1)
  assert.match(alarms[0]!, /divergence/)
  assert.equal(await data.log.end(0), 2)
  await engine.close()
})

test('a request that is not deterministic is decided, wherever its claims are judged', async () => {
  const keys = ['a', 'b', 'c', 'd']
  const [near, far] = [0, 1].map((partition) => keys.find((key) => partitionOf(key, 2) === partition)!)
  for (const lock of [near!, far!]) {
    const alarms: string[] = []
    const engine = await createEngine({
      app: house,
      data: memoryStorage({ partitions: 2 }),
      check: true,
      report: ({ message }) => alarms.push(message),
    })
    const reply = await engine.submit('take', { box: near!, lock }, { requestId: '1' })
    assert.ok(reply.status !== 'rejected')
    assert.equal(alarms.filter((message) => /divergence/.test(message)).length, 1)
    await engine.close()
  }
})
