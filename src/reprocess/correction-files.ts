/**
 * The corrections of a promotion, stored in files until the log has all of them:
 *
 *   promotions/N.json        the index: counts, and the hashes of the portions; its own hash is in the log
 *   promotions/N-P.ndjson    portion P: one correction per line
 *
 * Each portion is written and read by itself, so that the memory of the live engine does not grow with their
 * number.
 */
import { createHash } from 'node:crypto'
import { assert } from '../assert.ts'
import { operatorError } from '../failure.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { RecordedCorrection } from '../log/record.ts'
import type { Storage } from '../storage/storage.ts'
import type { PendingPromotion, StoredCorrections } from './candidate.ts'
import type { CorrectionCounts, CorrectionSet } from './corrections.ts'

type ReadText = Storage['kept']

export type PromotionFact = Extract<ControlFact, { type: 'promotion' }>

interface CorrectionIndex {
  readonly counts: CorrectionCounts
  readonly effectsNew: number
  readonly portions: readonly string[]
}

/** A portion has at most this many corrections and characters, or a single longer correction. */
const portionMax = 10_000
const portionLengthMax = 16 * 1024 * 1024

const indexName = (promotion: number) => `promotions/${promotion}.json`
const portionName = (promotion: number, portion: number) => `promotions/${promotion}-${portion}.ndjson`
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

/** Writes the files; they are durable when it resolves. A promotion without corrections has none. */
export async function writeCorrectionFiles(
  corrections: Pick<CorrectionSet, 'counts' | 'effectsNew' | 'lines'>,
  promotion: PendingPromotion,
  keep: Storage['keep'],
): Promise<StoredCorrections> {
  const { counts, effectsNew } = corrections
  const portions: string[] = []
  let count = 0
  for (const lines of portionsOf(corrections.lines(promotion))) {
    const text = lines.join('\n')
    await keep(portionName(promotion.number, portions.length), text)
    portions.push(hashOf(text))
    count += lines.length
  }
  const index: CorrectionIndex = { counts, effectsNew, portions }
  const text = JSON.stringify(index)
  if (count > 0) await keep(indexName(promotion.number), text)
  return { count, hash: hashOf(text), counts, effectsNew }
}

function* portionsOf(lines: Iterable<string>): Iterable<readonly string[]> {
  let portion: string[] = []
  let length = 0
  for (const line of lines) {
    if (portion.length === portionMax || (length > 0 && length + line.length > portionLengthMax)) {
      yield portion
      portion = []
      length = 0
    }
    portion.push(line)
    length += line.length
  }
  if (portion.length > 0) yield portion
}

interface CorrectionFile {
  readonly name: string
  readonly exists: boolean
  /** The text as it was written; undefined if the file is missing or has changed. */
  readonly text: string | undefined
}

/** Reads the index, then, if that is whole, the portions. */
async function* filesOf(
  read: ReadText,
  { number, correctionsHash }: PromotionFact,
): AsyncGenerator<CorrectionFile> {
  const readFile = async (name: string, hash: string): Promise<CorrectionFile> => {
    const text = await read(name)
    const isWhole = text !== undefined && hashOf(text) === hash
    return { name, exists: text !== undefined, text: isWhole ? text : undefined }
  }
  const index = await readFile(indexName(number), correctionsHash)
  yield index
  if (index.text === undefined) return
  const { portions }: CorrectionIndex = JSON.parse(index.text)
  for (const [portion, hash] of portions.entries()) yield readFile(portionName(number, portion), hash)
}

/** Reads the corrections of a promotion, one portion at a time. */
export async function* readCorrectionFiles(
  read: ReadText,
  promotion: PromotionFact,
): AsyncGenerator<readonly RecordedCorrection[]> {
  const { number } = promotion
  let expected = 0
  for await (const { name, text } of filesOf(read, promotion)) {
    if (text === undefined) throw lost(number, name)
    if (name === indexName(number)) continue
    const portion = text.split('\n').map((line) => JSON.parse(line) as RecordedCorrection)
    for (const { n } of portion) {
      assert(n === expected, 'the corrections of a promotion are numbered without gaps', n, expected)
      expected++
    }
    yield portion
  }
  const { corrections } = promotion
  assert(expected === corrections, 'the correction files hold as many as the log says', expected, corrections)
}

/** How many corrections of each kind a promotion had; zeros if the index is missing. */
export async function readCorrectionCounts(
  read: ReadText,
  { number }: PromotionFact,
): Promise<Pick<StoredCorrections, 'counts' | 'effectsNew'>> {
  const text = await read(indexName(number))
  const none = { outcome: 0, effect: 0, row: 0 }
  const { counts, effectsNew }: CorrectionIndex =
    text === undefined ? { counts: none, effectsNew: 0, portions: [] } : JSON.parse(text)
  return { counts, effectsNew }
}

/** Which of the files are missing, and which differ from what was written. */
export async function checkCorrectionFiles(
  read: ReadText,
  promotion: PromotionFact,
): Promise<{ readonly missing: readonly string[]; readonly changed: readonly string[] }> {
  const missing: string[] = []
  const changed: string[] = []
  for await (const { name, exists, text } of filesOf(read, promotion)) {
    if (!exists) missing.push(name)
    else if (text === undefined) changed.push(name)
  }
  return { missing, changed }
}

const lost = (promotion: number, name: string) =>
  operatorError(
    'corrections-lost',
    `The log lacks some corrections of promotion ${promotion}, and \`${name}\` in the data directory is ` +
      'missing or has changed. Put that file back from a backup.',
  )
