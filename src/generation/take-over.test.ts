import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/shelf.ts'
import { appsOf } from '../../test/apps.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import { type MemoryStorage, memoryStorage } from '../testing/index.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/shelf.ts'))
const { store } = apps

// New code that continues where the old code stopped (`onCodeChange: 'continue'`). If it cannot, it must be
// refused before it takes over, since afterwards neither version could start.

const bare = await store('bare', { indexes: {} })
const indexed = await store('indexed', { indexes: { byName: ['name'] } })
const without = await store('without', { indexes: undefined })

function open(data: MemoryStorage, code: AppBundle, options: object = {}): Promise<Engine<App>> {
  return createEngine({ app: code, data, report: () => {}, ...options } as never) as Promise<Engine<App>>
}

const continuing = { onCodeChange: 'continue' }

for (const [what, name] of [
  ['is of a kind that has no order', { first: 'x' }],
  ['is too long', 'x'.repeat(2_000)],
] as const) {
  test(`code with a new index over a field that ${what} is refused, and the old code still starts`, async () => {
    const data = memoryStorage({ partitions: 2 })
    let engine = await open(data, bare)
    await engine.submit('put', { at: 'a', name: 'x' } as never, { requestId: 'r1' })
    await engine.submit('put', { at: 'b', name } as never, { requestId: 'r2' })
    await engine.close()
    await assert.rejects(open(data, indexed, continuing), (error: Error & { code: string }) => {
      assert.equal(error.code, 'table-shape-changed')
      assert.match(error.message, /"byName".*"things".*\["b"\]/s)
      return true
    })
    engine = await open(data, bare)
    await engine.submit('put', { at: 'b', name: 'y' } as never, { requestId: 'r3' })
    await engine.close()
    engine = await open(data, indexed, continuing)
    assert.equal((await engine.scan('things', { index: 'byName', prefix: ['y'] } as never)).length, 1)
    await engine.close()
  })
}

test('stories and changes leave out tables that are gone', async () => {
  const data = memoryStorage()
  let engine = await open(data, bare)
  await engine.submit('put', { at: 'a', name: 'x' } as never, { requestId: 'r1' })
  await engine.close()
  engine = await open(data, without, continuing)
  const story = (await engine.story('r1'))!
  assert.deepEqual(
    story.steps.flatMap(({ changes }) => changes.map(({ table }) => table)),
    ['counts'],
  )
  for await (const { changes } of engine.changes({ from: '0' })) {
    assert.deepEqual(
      changes.map(({ table }) => table),
      ['counts'],
    )
    break
  }
  await engine.close()
})

for (const [what, parts, input, named] of [
  ['the event of a timer that is set', { rings: true }, { ring: true }, /"a".*"rung"/s],
  ['the request of a claim that is held', { books: true }, {}, /r2.*"book"/s],
  ['the type of an effect that is not delivered', { sends: true }, { send: true }, /effect.*"card"/s],
] as const) {
  test(`code without ${what} is refused`, async () => {
    const data = memoryStorage({ partitions: 2 })
    const full = await store('full', { indexes: {}, ...parts })
    let engine = await open(data, full)
    await engine.submit('put', { at: 'a', name: 'x', ...input } as never, { requestId: 'r1' })
    if ('books' in parts) await engine.submit('book', { at: 'a' } as never, { requestId: 'r2' })
    await engine.close()
    await assert.rejects(open(data, bare, continuing), (error: Error & { code: string }) => {
      assert.equal(error.code, 'take-over-incomplete')
      assert.match(error.message, named)
      return true
    })
    engine = await open(data, full)
    await engine.close()
  })
}
