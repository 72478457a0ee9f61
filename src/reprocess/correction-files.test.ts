import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  checkCorrectionFiles,
  type PromotionFact,
  readCorrectionCounts,
  readCorrectionFiles,
  writeCorrectionFiles,
} from './correction-files.ts'

const promotion = { number: 3, identity: 'a', offset: 7 }

/** Writes some lines as the corrections of a promotion. */
async function written(lines: readonly string[]) {
  const texts = new Map<string, string>()
  const counts = { outcome: lines.length, effect: 0, row: 0 }
  const made = await writeCorrectionFiles(
    { counts, effectsNew: 2, lines: () => lines.values() },
    promotion,
    async (name, text) => {
      texts.set(name, text)
    },
  )
  const fact = {
    number: promotion.number,
    corrections: lines.length,
    correctionsHash: made.hash,
  } as PromotionFact
  const get = async (name: string) => texts.get(name)
  const all = async () => {
    const read: unknown[] = []
    for await (const portion of readCorrectionFiles(get, fact)) read.push(...portion)
    return read
  }
  return { texts, made, fact, get, all, counts }
}

test('many corrections are written in portions, and read back in order', async () => {
  const { texts, made, fact, get, all, counts } = await written(
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
  assert.deepEqual(await readCorrectionCounts(get, fact), { counts, effectsNew: 2 })
  assert.deepEqual(await checkCorrectionFiles(get, fact), { missing: [], changed: [] })
})

test('long corrections fill a portion sooner, and a single one may be of any length', async () => {
  const lines = [9e6, 9e6, 20e6, 1, 2].map((length, n) => JSON.stringify({ n, text: 'x'.repeat(length) }))
  const { texts, all } = await written(lines)
  const lengths = [0, 1, 2, 3].map(
    (portion) => texts.get(`promotions/3-${portion}.ndjson`)!.split('\n').length,
  )
  assert.deepEqual(lengths, [1, 1, 1, 2])
  assert.deepEqual(
    await all(),
    lines.map((line) => JSON.parse(line)),
  )
})

test('a promotion without corrections has no files', async () => {
  const { texts, made, fact, get } = await written([])
  assert.equal(texts.size, 0)
  assert.equal(made.count, 0)
  assert.deepEqual(await readCorrectionCounts(get, fact), {
    counts: { outcome: 0, effect: 0, row: 0 },
    effectsNew: 0,
  })
})

test('a missing or changed file is named', async () => {
  const { texts, fact, get, all } = await written(Array.from({ length: 10_001 }, (_, n) => `{"n":${n}}`))
  const whole = new Map(texts)
  for (const name of whole.keys()) {
    texts.set(name, `${whole.get(name)} `)
    await assert.rejects(all(), { code: 'corrections-lost', message: new RegExp(name) })
    assert.deepEqual(await checkCorrectionFiles(get, fact), { missing: [], changed: [name] })
    texts.delete(name)
    await assert.rejects(all(), { code: 'corrections-lost', message: new RegExp(name) })
    assert.deepEqual(await checkCorrectionFiles(get, fact), { missing: [name], changed: [] })
    texts.set(name, whole.get(name)!)
  }
})

test('a gap in the numbers of the corrections, and a number that differs from the log, stop the reading', async () => {
  const gap = await written(['{"n":0}', '{"n":2}'])
  await assert.rejects(gap.all(), { code: 'assertion-failed', message: /without gaps. Found 2, expected 1/ })
  const short = await written(['{"n":0}'])
  const reading = readCorrectionFiles(short.get, { ...short.fact, corrections: 2 })
  await reading.next()
  await assert.rejects(reading.next(), { code: 'assertion-failed', message: /Found 1, expected 2/ })
})
