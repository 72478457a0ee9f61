import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type App, app, createEngine, type Engine, scopes } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

// Outcomes are corrected by a promotion, whatever the new code does with their requests.

const [order] = scopes('order')
const table = order.table('orders', { value: z.object({ text: z.string() }) })

type Code = 'first' | 'upper' | 'without'

/** Keeps orders. `upper` has keys and texts in capitals, and throws at the name 7; `without` no longer defines the request. */
function orders(code: Code, corrects = false): App {
  const place = order.request('place', {
    input: z.object({ name: z.union([z.string(), z.int()]) }),
    key: ({ name }) => (code === 'upper' ? (name as string).toUpperCase() : String(name)),
    derive(tx, { name }) {
      tx.put(table, { text: String(name) })
      return code === 'upper' ? { text: (name as string).toUpperCase() } : { text: String(name) }
    },
  })
  const look = order.request('look', {
    input: z.object({ name: z.string() }),
    key: ({ name }) => name,
    derive: (tx) => tx.get(table) ?? null,
  })
  const noted = order.correct((tx, correction) => {
    if (correction.kind === 'outcome') tx.put(table, { text: `corrected ${correction.after.status}` })
  })
  return app(`orders-${code}`, {
    requests: code === 'without' ? [look] : [place, look],
    tables: [table],
    reactions: corrects ? [noted] : [],
  }) as App
}

function open(
  data: ReturnType<typeof memoryStorage>,
  code: App,
  earlier: readonly App[],
  options: object = {},
) {
  const given = { app: code, earlier, data, report: () => {}, ...options }
  return createEngine(given as never) as Promise<Engine<App>>
}

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

for (const corrects of [false, true]) {
  test(`a request that has no key in the new code is corrected under its old key (${corrects ? 'with' : 'without'} a correct reaction)`, async () => {
    const data = memoryStorage({ partitions: 4 })
    const [first, upper] = [orders('first'), orders('upper', corrects)]
    const engine = await open(data, first, [upper])
    for (const name of ['a', 7]) await engine.submit('place', { name } as never, { requestId: `r${name}` })
    await engine.reprocessing.start({ app: upper })
    const { corrections } = await promote(engine, 'p')
    assert.equal(corrections.outcome, 2)
    assert.equal((await engine.story('r7'))?.outcome?.status, 'accepted')
    assert.deepEqual(
      await engine.get('orders', ['7'] as never),
      corrects ? { text: 'corrected failed' } : undefined,
    )
    const digest = await engine.digest()
    await engine.close()
    const bare = await open({ ...memoryStorage({ partitions: 4 }), log: data.log }, upper, [first])
    assert.equal(await bare.digest(), digest)
    await bare.close()
  })
}

test('a promotion can go back to code that no longer defines a request', async () => {
  const data = memoryStorage({ partitions: 4 })
  const all = [orders('first'), orders('upper'), orders('without')] as const
  const [first, upper, without] = all
  let engine = await open(data, first, all)
  await engine.submit('place', { name: 'a' } as never, { requestId: 'ra' })
  await engine.close()
  engine = await open(data, without, all, { onCodeChange: 'continue' })
  const before = await engine.digest()
  await engine.reprocessing.start({ app: upper })
  await promote(engine, 'p1')
  assert.notEqual(await engine.digest(), before)
  await promote(engine, 'p2')
  assert.equal(await engine.digest(), before)
  assert.deepEqual((await engine.story('ra'))?.outcome, { status: 'accepted', value: { text: 'a' } })
  await engine.close()
})

test('rows of a table that moved to another scope are corrected in both scopes', async () => {
  const [yard, hall] = scopes('yard', 'hall')
  const corrected: string[] = []
  const made = (scope: 'yard' | 'hall') => {
    const home = (scope === 'yard' ? yard : hall) as typeof yard
    const things = home.table('things', { value: z.object({ n: z.int() }) })
    const put = home.request('put', {
      input: z.object({ k: z.string() }),
      key: ({ k }) => k,
      derive(tx) {
        tx.put(things, { n: scope === 'yard' ? 1 : 2 })
      },
    })
    const corrects = [yard, hall].map((each) =>
      each.correct((tx, correction) => {
        if (correction.kind !== 'row') return
        const { before, after } = correction as { before?: unknown; after?: unknown }
        corrected.push(`${tx.key} ${JSON.stringify(before)} ${JSON.stringify(after)}`)
      }),
    )
    return app(scope, { requests: [put], tables: [things], reactions: corrects }) as unknown as App
  }
  const [first, second] = [made('yard'), made('hall')]
  const engine = await open(memoryStorage(), first, [second])
  for (const k of ['p', 'q']) await engine.submit('put', { k } as never, { requestId: k })
  await engine.reprocessing.start({ app: second })
  const { corrections } = await promote(engine, 'pr')
  assert.deepEqual(corrections, { outcome: 0, effect: 0, row: 4 })
  const both = ['p', 'q'].flatMap((k) => [`${k} undefined {"n":2}`, `${k} {"n":1} undefined`])
  assert.deepEqual(corrected.sort(), both.sort())
  await engine.close()
})
