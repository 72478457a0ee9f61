import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/jam.ts'
import { appsOf } from '../../test/apps.ts'
import { HenceError } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/jam.ts'))
const house = await apps.house()

// Any error that an app throws fails its own derivation, and must not stop the engine. Any error of the state
// stops the engine, whatever the app does with it, and must not become an outcome.

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
