import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CorrectionFiles,
  checkCorrectionFiles,
  type PromotionFact,
  readCorrectionCounts,
  readCorrectionFiles,
} from './correction-files.ts'
import type { FoundCorrection } from './corrections.ts'

const number = 3

/** Drafts that stand for those of a comparison. */
function found(drafts: readonly object[], fresh = drafts.map(draftOf)) {
  const counts = { outcome: drafts.length, effect: 0, row: 0 }
  const unwritten = function* (beside: boolean) {
    yield* fresh.filter(({ text, kind }) => text !== '' && (kind === 'unasked') === beside)
  }
  const written = (findings: readonly FoundCorrection[], portion: { readonly dropped: number[] }) => {
    for (const [line, finding] of findings.entries())
      Object.assign(finding, { text: '', place: { portion, line } })
  }
  return { counts, effectsNew: 2, unwritten, written, fresh }
}

function draftOf(draft: object): FoundCorrection {
  return { kind: 'beside' in draft ? 'unasked' : 'outcome', text: JSON.stringify({ what: {}, ...draft }) }
}

/** Writes some drafts as the corrections of a promotion. */
async function written(drafts: readonly object[], changed = (_: ReturnType<typeof found>) => {}) {
  const texts = new Map<string, string>()
  const corrections = found(drafts)
  const files = new CorrectionFiles(corrections, number, async (name, text) => {
    texts.set(name, text)
  })
  await files.write()
  changed(corrections)
  const made = await files.finish(number)
  const { count: total, hash: correctionsHash } = made
  const from = { principal: '', requestId: 'p', positions: [7] }
  const fact = { number, corrections: total, correctionsHash, ...from } as unknown as PromotionFact
  const get = async (name: string) => texts.get(name)
  const all = async () => {
    const read: { readonly n: number; readonly i?: number }[] = []
    for await (const portion of readCorrectionFiles(get, fact)) read.push(...(portion as never[]))
    return read
  }
  return { texts, made, fact, get, all, counts: corrections.counts }
}

const numbers = (length: number) => Array.from({ length }, (_, i) => ({ i }))

test('many corrections are written in portions, and read back in order', async () => {
  const { texts, made, fact, get, all, counts } = await written(numbers(25_000))
  assert.equal(made.count, 25_000)
  assert.deepEqual([...texts.keys()].sort(), [
    'promotions/3-0.ndjson',
    'promotions/3-1.ndjson',
    'promotions/3-2.ndjson',
    'promotions/3.json',
  ])
  assert.deepEqual(
    (await all()).map(({ n, i }) => [n, i]),
    numbers(25_000).map(({ i }) => [i, i]),
  )
  assert.deepEqual(await readCorrectionCounts(get, fact), { counts, effectsNew: 2 })
  assert.deepEqual(await checkCorrectionFiles(get, fact), { missing: [], changed: [] })
})

test('long corrections fill a portion sooner, and a single one may be of any length', async () => {
  const drafts = [9e6, 9e6, 20e6, 1, 2].map((length, i) => ({ i, text: 'x'.repeat(length) }))
  const { texts, all } = await written(drafts)
  const lengths = [0, 1, 2, 3].map(
    (portion) => texts.get(`promotions/3-${portion}.ndjson`)!.split('\n').length,
  )
  assert.deepEqual(lengths, [1, 1, 1, 2])
  assert.deepEqual(
    (await all()).map(({ i }) => i),
    [0, 1, 2, 3, 4],
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
  const { texts, fact, get, all } = await written(numbers(10_001))
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

test('what changes after it was written is dropped from its portion, and the rest has no gaps', async () => {
  const drafts = [{ i: 0 }, { i: 1, beside: true }, { i: 2 }, { i: 3, beside: true }]
  const { made, all } = await written(drafts, ({ fresh }) => {
    for (const { place } of [fresh[0]!, fresh[1]!]) place!.portion.dropped.push(place!.line)
    fresh.push(draftOf({ i: 4, beside: true }), draftOf({ i: 5 }))
  })
  assert.deepEqual([made.count, made.first], [4, 2])
  const read = (await all()).map(({ n, i }) => [n, i])
  assert.deepEqual(
    read,
    [2, 5, 3, 4].map((i, n) => [n, i]),
  )
})

test('a number of corrections that differs from the log stops the reading', async () => {
  const short = await written(numbers(1))
  const reading = readCorrectionFiles(short.get, { ...short.fact, corrections: 2 })
  await reading.next()
  await assert.rejects(reading.next(), { code: 'assertion-failed', message: /Found 1, expected 2/ })
})
