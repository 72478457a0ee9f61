import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import { encodeRequest } from '../../src/log/record.ts'
import type * as made from '../apps/once.ts'
import { appsOf } from '../apps.ts'
import { HandClock } from '../hand-clock.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/once.ts'))

const day = 86_400_000

test('a request that is twice in an old log is derived once, however late it is replayed', async () => {
  const house = await apps.house()
  const clock = new HandClock()
  const data = memoryStorage({ clock })
  const record = (box: string, id: number) => {
    const hex = clock.now().toString(16).padStart(12, '0')
    const uuid = `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-${String(id).padStart(12, '0')}`
    return encodeRequest(`7${uuid}\0`, 'add', JSON.stringify({ box }), undefined, 1)
  }
  const twice = record('a', 0)
  await data.log.append(0, [twice])
  for (let i = 1; i <= 20; i++) await data.log.append(0, [record(`other${i}`, i)])
  await data.log.append(0, [twice])
  clock.pass(90 * day)
  const engine = await createEngine({
    app: house,
    data,
    clock,
    checkpointRows: 2,
    confirmClock: true,
    report: () => {},
  })
  assert.deepEqual(await engine.get('boxes', ['a']), { count: 1 })
  await engine.close()
})
