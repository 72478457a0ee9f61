import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  keptCounts,
  keptFlaws,
  type Promoted,
  readCorrectionFiles,
  writeCorrectionFiles,
} from './correction-files.ts'

const promotion = { number: 3, identity: 'a', offset: 7 }

/** Keeps some lines as the corrections of a promotion. */
async function kept(lines: readonly string[]) {
  const texts = new Map<string, string>()
  const counts = { outcome: lines.length, effect: 0, row: 0 }
  const made = await writeCorrectionFiles(
    { counts, effectsNew: 2, lines: () => lines.values() },
    promotion,
    async (name, text) => {
      texts.set(name, text)
    },
  )
  const fact = { number: promotion.number, correctionsHash: made.hash } as Promoted
  const get = async (name: string) => texts.get(name)
  const all = async () => {
    const read: unknown[] = []
    for await (const portion of readCorrectionFiles(get, fact)) read.push(...portion)
    return read
  }
  return { texts, made, fact, get, all, counts }
}

test('many corrections are kept in portions, and come back in their order', async () => {
  const { texts, made, fact, get, all, counts } = await kept(
    Array.from({ length: 25_000 }, (_, n) => `{"n":${n}}`),
  )
  assert.equal(made.count, 25_000)
  assert.deepEqual([...texts.keys()].sort(), [
    'promotions/3-0.ndjson',
    'promotions/3-1.ndjson',
    'promotions/3-2.ndjson',
    'promotions/3.json',
  ])
  assert.deepEqual(
    await all(),
    Array.from({ length: 25_000 }, (_, n) => ({ n })),
  )
  assert.deepEqual(await keptCounts(get, fact), { counts, effectsNew: 2 })
  assert.deepEqual(await keptFlaws(get, fact), { missing: [], changed: [] })
})

test('long ones fill a portion sooner, and one stands alone however long it is', async () => {
  const long = (characters: number) => JSON.stringify('x'.repeat(characters))
  const lines = [long(9e6), long(9e6), long(20e6), long(1), long(2)]
  const { texts, all } = await kept(lines)
  const lengths = [0, 1, 2, 3].map(
    (portion) => texts.get(`promotions/3-${portion}.ndjson`)!.split('\n').length,
  )
  assert.deepEqual(lengths, [1, 1, 1, 2])
  assert.deepEqual(
    await all(),
    lines.map((line) => JSON.parse(line)),
  )
})

test('nothing is kept of a promotion without corrections', async () => {
  const { texts, made, fact, get } = await kept([])
  assert.equal(texts.size, 0)
  assert.equal(made.count, 0)
  assert.deepEqual(await keptCounts(get, fact), { counts: { outcome: 0, effect: 0, row: 0 }, effectsNew: 0 })
})

test('a file that is gone or was changed is named', async () => {
  const { texts, fact, get, all } = await kept(Array.from({ length: 10_001 }, (_, n) => `{"n":${n}}`))
  const whole = new Map(texts)
  for (const name of whole.keys()) {
    texts.set(name, `${whole.get(name)} `)
    await assert.rejects(all(), { code: 'corrections-lost', message: new RegExp(name) })
    assert.deepEqual(await keptFlaws(get, fact), { missing: [], changed: [name] })
    texts.delete(name)
    await assert.rejects(all(), { code: 'corrections-lost', message: new RegExp(name) })
    assert.deepEqual(await keptFlaws(get, fact), { missing: [name], changed: [] })
    texts.set(name, whole.get(name)!)
  }
})
