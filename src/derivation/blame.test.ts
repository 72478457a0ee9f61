import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Advice, app, HenceError, scopes } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

// Any error that an app throws fails its own derivation, and must not stop the engine. Any error of the state
// stops the engine, whatever the app does with it, and must not become an outcome.

const [box] = scopes('box')
const boxes = box.table('boxes', { value: z.object({ full: z.boolean() }) })
const advice = z.enum(['retry', 'change', 'operator'])
const opened = box.event('opened', {
  data: z.object({ box: z.string(), advice }),
  key: (data) => data.box,
})
const throwing = (advice: Advice) => {
  throw new HenceError('box-jammed', advice, 'The box is jammed.')
}
const jam = box.request('jam', {
  input: z.object({ box: z.string(), advice, where: z.enum(['derive', 'reaction', 'timer']) }),
  key: (input) => input.box,
  derive(tx, { box, advice, where }) {
    if (where === 'derive') throwing(advice)
    else if (where === 'reaction') tx.emit(opened, { box, advice })
    else tx.schedule(opened, { box, advice }, { at: tx.now })
  },
})
const look = box.request('look', {
  input: z.object({ box: z.string() }),
  key: (input) => input.box,
  derive(tx) {
    try {
      return { full: tx.get(boxes)?.full ?? false }
    } catch {
      return { full: false }
    }
  },
})
const react = box.on(opened, (_, { advice }) => throwing(advice))
const house = app('house', { requests: [jam, look], tables: [boxes], reactions: [react] })

test('an error of Hence that an app throws fails its derivation and nothing else', async () => {
  const alarms: string[] = []
  const engine = await createEngine({
    app: house,
    data: memoryStorage(),
    report: ({ code, message }) => alarms.push(`${code} ${/box-jammed/.test(message)}`),
  })
  for (const advice of ['retry', 'change', 'operator'] as const) {
    for (const where of ['derive', 'reaction', 'timer'] as const) {
      const reply = await engine.submit(
        'jam',
        { box: 'a', advice, where },
        { requestId: `${advice}-${where}` },
      )
      assert.equal(reply.status, where === 'derive' ? 'failed' : 'accepted')
    }
  }
  assert.equal((await engine.submit('look', { box: 'a' }, { requestId: 'look' })).status, 'accepted')
  assert.deepEqual([...new Set(alarms)], ['derivation-failed true'])
  assert.equal(alarms.length, 9)
  await engine.close()
})

test('a state that cannot be read stops the engine also when the app catches the error', async () => {
  const data = memoryStorage()
  const store = await data.openStore(0, [], false)
  const failing = {
    ...data,
    openStore: async () => ({
      range: store.range.bind(store),
      write: store.write.bind(store),
      view: store.view.bind(store),
      close: store.close.bind(store),
      get(collection: string, key: string) {
        if (collection === 't:boxes') throw new HenceError('state-unreadable', 'operator', 'A bad block.')
        return store.get(collection, key)
      },
    }),
  }
  await store.write([['t:boxes', [['a\0', '{"full":true}']]]])
  const engine = await createEngine({ app: house, data: failing as never, report: () => {} })
  await assert.rejects(engine.submit('look', { box: 'a' }, { requestId: 'look' }), { code: 'engine-stopped' })
  await engine.close()
})
