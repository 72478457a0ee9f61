/**
 * The corrections of a promotion, stored in files until the log has all of them:
 *
 *   promotions/N.json        the index: counts, and the portions; its own hash is in the log
 *   promotions/M-P.ndjson    a portion: one correction per line, without its number
 *
 * Each portion is written and read by itself, so that the memory of the live engine does not grow with their
 * number. Most of them are written while requests go on. The index drops the lines that no longer hold after
 * that; those that took their place stand in a later portion.
 */
import { createHash } from 'node:crypto'
import { assert } from '../assert.ts'
import { operatorError } from '../failure.ts'
import { identityOf } from '../identity.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { RecordedCorrection } from '../log/record.ts'
import type { Storage } from '../storage/storage.ts'
import type { StoredCorrections } from './candidate.ts'
import type {
  CorrectionCounts,
  CorrectionDraft,
  CorrectionSet,
  FoundCorrection,
  WrittenPortion,
} from './corrections.ts'

type ReadText = Storage['kept']

export type PromotionFact = Extract<ControlFact, { type: 'promotion' }>

interface CorrectionIndex {
  readonly counts: CorrectionCounts
  readonly effectsNew: number
  readonly portions: readonly Portion[]
}

interface Portion extends WrittenPortion {
  readonly file: string
  readonly sha256: string
}

/** A portion has at most this many corrections and characters, or a single longer correction. */
const portionMax = 10_000
const portionLengthMax = 16 * 1024 * 1024

const indexName = (promotion: number) => `promotions/${promotion}.json`
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

/** Writes the corrections of a promotion to their files. */
export class CorrectionFiles {
  readonly #corrections: Pick<CorrectionSet, 'counts' | 'effectsNew' | 'unwritten' | 'written'>
  readonly #name: number
  readonly #keep: Storage['keep']
  readonly #portions = { first: [] as Portion[], beside: [] as Portion[] }
  /** How many lines hold or were dropped. */
  readonly #lines = { first: 0, beside: 0 }

  /** @param name the number that the promotion is expected to have, for the names of the portions */
  constructor(
    corrections: Pick<CorrectionSet, 'counts' | 'effectsNew' | 'unwritten' | 'written'>,
    name: number,
    keep: Storage['keep'],
  ) {
    this.#corrections = corrections
    this.#name = name
    this.#keep = keep
  }

  /** Writes what is in no file yet; it is durable when this resolves. */
  async write(): Promise<void> {
    for (const part of ['first', 'beside'] as const) {
      for (const findings of portionsOf(this.#corrections.unwritten(part === 'beside'))) {
        const { first, beside } = this.#portions
        const file = `promotions/${this.#name}-${first.length + beside.length}.ndjson`
        const text = findings.map(({ text }) => text).join('\n')
        await this.#keep(file, text)
        const portion = { file, sha256: hashOf(text), dropped: [] }
        this.#corrections.written(findings, portion)
        this.#portions[part].push(portion)
        this.#lines[part] += findings.length
      }
    }
  }

  /** Writes what is left, and the index. A promotion without corrections has none. */
  async finish(promotion: number): Promise<StoredCorrections> {
    await this.write()
    const { counts, effectsNew } = this.#corrections
    const holding = (part: 'first' | 'beside') =>
      this.#portions[part].reduce((sum, { dropped }) => sum - dropped.length, this.#lines[part])
    const first = holding('first')
    const count = first + holding('beside')
    const portions = count === 0 ? [] : [...this.#portions.first, ...this.#portions.beside]
    const index: CorrectionIndex = { counts, effectsNew, portions }
    const text = JSON.stringify(index)
    if (count > 0) await this.#keep(indexName(promotion), text)
    return { count, first, hash: hashOf(text), counts, effectsNew }
  }
}

function* portionsOf(findings: Iterable<FoundCorrection>): Iterable<readonly FoundCorrection[]> {
  let portion: FoundCorrection[] = []
  let length = 0
  for (const finding of findings) {
    const { text } = finding
    if (portion.length === portionMax || (length > 0 && length + text.length > portionLengthMax)) {
      yield portion
      portion = []
      length = 0
    }
    portion.push(finding)
    length += text.length
  }
  if (portion.length > 0) yield portion
}

interface CorrectionFile {
  readonly name: string
  readonly exists: boolean
  /** The text as it was written; undefined if the file is missing or has changed. */
  readonly text: string | undefined
  /** The lines of a portion that do not hold. */
  readonly dropped?: readonly number[]
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
  for (const { file, sha256, dropped } of portions) yield { ...(await readFile(file, sha256)), dropped }
}

/** Reads the corrections of a promotion, one portion at a time, and numbers them from 0 without gaps. */
export async function* readCorrectionFiles(
  read: ReadText,
  promotion: PromotionFact,
): AsyncGenerator<readonly RecordedCorrection[]> {
  const { number, principal, requestId, positions } = promotion
  // A row follows from no single request, so its chain begins with the promotion.
  const chain = {
    identity: identityOf(requestId, principal),
    ...{ rootPartition: 0, rootOffset: positions[0]! },
  }
  let n = 0
  for await (const { name, text, dropped } of filesOf(read, promotion)) {
    if (text === undefined) throw lost(number, name)
    if (dropped === undefined) continue
    const isDropped = new Set(dropped)
    const portion: RecordedCorrection[] = []
    for (const [line, draft] of text.split('\n').entries()) {
      if (isDropped.has(line)) continue
      const given: CorrectionDraft = JSON.parse(draft)
      const { what } = given
      portion.push({
        promotion: number,
        n,
        ...(what.kind === 'row' && chain),
        ...given,
      } as RecordedCorrection)
      n++
    }
    yield portion
  }
  const { corrections } = promotion
  assert(n === corrections, 'the correction files hold as many as the log says', n, corrections)
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
