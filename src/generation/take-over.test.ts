import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type App, app, createEngine, type Engine, effect, scopes } from '../index.ts'
import { type MemoryStorage, memoryStorage } from '../testing/index.ts'

// New code that continues where the old code stopped (`onCodeChange: 'continue'`). If it cannot, it must be refused before it
// takes over, since afterwards neither version could start.

const [shelf] = scopes('shelf')
const card = effect('card', { input: z.object({ at: z.string() }) })

interface Parts {
  /** The indexes of its table; undefined for no table. */
  readonly indexes?: Readonly<Record<string, readonly string[]>> | undefined
  readonly rings?: boolean
  readonly books?: boolean
  readonly sends?: boolean
}

/** An app that keeps things on shelves; its versions may ring after a while, book places, and send cards. */
function store(name: string, { indexes, rings = false, books = false, sends = false }: Parts): App {
  const things = shelf.table('things', {
    value: z.object({ name: z.unknown(), count: z.int() }),
    ...(indexes && { indexes }),
  } as never)
  const counts = shelf.table('counts', { value: z.object({ count: z.int() }) })
  const rung = shelf.event('rung', { data: z.object({ at: z.string() }), key: ({ at }) => at })
  const put = shelf.request('put', {
    input: z.object({
      at: z.string(),
      name: z.unknown(),
      ring: z.boolean().optional(),
      send: z.boolean().optional(),
    }),
    key: ({ at }) => at,
    derive(tx, { at, name, ring = false, send = false }) {
      if (indexes) tx.put(things, { name, count: 1 } as never)
      tx.put(counts, { count: (tx.get(counts)?.count ?? 0) + 1 })
      if (send) tx.effect(card, { at })
      if (ring) tx.schedule(rung, { at }, { at: tx.now + 1_000 })
      return null
    },
  })
  const rang = shelf.on(rung, (tx) => tx.put(counts, { count: 100 }))
  const places = shelf.capacity('places', { limit: 5, mode: 'strict' })
  const book = shelf.request('book', {
    input: z.object({ at: z.string() }),
    key: ({ at }) => at,
    claims: ({ at }) => [places.claim(at, 1)],
    derive: () => null,
  })
  return app(name, {
    requests: books ? [put, book] : [put],
    constraints: [places],
    effects: sends ? [card] : [],
    tables: indexes ? [things, counts] : [counts],
    reactions: rings ? [rang] : [],
  } as never) as App
}

const bare = store('bare', { indexes: {} })
const indexed = store('indexed', { indexes: { byName: ['name'] } })
const without = store('without', { indexes: undefined })

function open(data: MemoryStorage, code: App, options: object = {}): Promise<Engine<App>> {
  const earlier = [bare, indexed, without]
  return createEngine({ app: code, earlier, data, report: () => {}, ...options } as never) as Promise<
    Engine<App>
  >
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
    const full = store('full', { indexes: {}, ...parts })
    let engine = await open(data, full, { earlier: [full, bare] })
    await engine.submit('put', { at: 'a', name: 'x', ...input } as never, { requestId: 'r1' })
    if ('books' in parts) await engine.submit('book', { at: 'a' } as never, { requestId: 'r2' })
    await engine.close()
    await assert.rejects(
      open(data, bare, { ...continuing, earlier: [full] }),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'take-over-incomplete')
        assert.match(error.message, named)
        return true
      },
    )
    engine = await open(data, full, { earlier: [bare] })
    await engine.close()
  })
}
