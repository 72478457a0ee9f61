/**
 * The corrections of a promotion, as they are kept until the log has all of them:
 *
 *   promotions/N.json        what they come to, and the hashes of the portions; its own hash is in the log
 *   promotions/N-P.ndjson    portion P: a correction a line
 *
 * A portion is written and read by itself, so that it makes no difference to the memory of the live engine how many there are.
 */
import { createHash } from 'node:crypto'
import { HenceError } from '../failure.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { RecordedCorrection } from '../log/record.ts'
import type { Storage } from '../storage/storage.ts'
import type { CorrectionFiles, PromotionToCome } from './candidate.ts'
import type { CorrectionCounts, Corrections } from './corrections.ts'

type Kept = Storage['kept']

export type Promoted = Extract<ControlFact, { type: 'promotion' }>

interface Head {
  readonly counts: CorrectionCounts
  readonly effectsNew: number
  /** SHA-256 of each portion. */
  readonly portions: readonly string[]
}

/** A portion has so many corrections and characters at most, or one correction. */
const portionMax = 10_000
const portionLengthMax = 16 * 1024 * 1024

const headName = (promotion: number) => `promotions/${promotion}.json`
const portionName = (promotion: number, portion: number) => `promotions/${promotion}-${portion}.ndjson`
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

/** Keeps them, for good when it resolves. */
export async function writeCorrectionFiles(
  corrections: Pick<Corrections, 'counts' | 'effectsNew' | 'lines'>,
  promotion: PromotionToCome,
  keep: Storage['keep'],
): Promise<CorrectionFiles> {
  const { counts, effectsNew } = corrections
  const portions: string[] = []
  let count = 0
  for (const lines of portionsOf(corrections.lines(promotion))) {
    const text = lines.join('\n')
    await keep(portionName(promotion.number, portions.length), text)
    portions.push(hashOf(text))
    count += lines.length
  }
  const head: Head = { counts, effectsNew, portions }
  const text = JSON.stringify(head)
  if (count > 0) await keep(headName(promotion.number), text)
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

/** A file that the corrections of a promotion are kept in. */
interface KeptFile {
  readonly name: string
  readonly isThere: boolean
  /** As it was written; undefined when that is lost. */
  readonly text: string | undefined
}

/** The head, and then the portions, if the head says which those are. */
async function* filesOf(kept: Kept, { number, correctionsHash }: Promoted): AsyncGenerator<KeptFile> {
  const read = async (name: string, hash: string): Promise<KeptFile> => {
    const text = await kept(name)
    const isWhole = text !== undefined && hashOf(text) === hash
    return { name, isThere: text !== undefined, text: isWhole ? text : undefined }
  }
  const head = await read(headName(number), correctionsHash)
  yield head
  if (head.text === undefined) return
  const { portions }: Head = JSON.parse(head.text)
  for (const [portion, hash] of portions.entries()) yield read(portionName(number, portion), hash)
}

/**
 * The corrections of a promotion, a portion at a time.
 * @throws HenceError `corrections-lost` (operator)
 */
export async function* readCorrectionFiles(
  kept: Kept,
  promoted: Promoted,
): AsyncGenerator<readonly RecordedCorrection[]> {
  const { number } = promoted
  for await (const { name, text } of filesOf(kept, promoted)) {
    if (text === undefined) throw lost(number, name)
    if (name !== headName(number)) yield text.split('\n').map((line) => JSON.parse(line))
  }
}

/** What the corrections of a promotion came to; zeros when that is not kept any more. */
export async function keptCounts(
  kept: Kept,
  { number }: Promoted,
): Promise<Pick<CorrectionFiles, 'counts' | 'effectsNew'>> {
  const text = await kept(headName(number))
  const none = { outcome: 0, effect: 0, row: 0 }
  const { counts, effectsNew }: Head =
    text === undefined ? { counts: none, effectsNew: 0, portions: [] } : JSON.parse(text)
  return { counts, effectsNew }
}

/** Which of the files are not there, and which are not what was written. */
export async function keptFlaws(
  kept: Kept,
  promoted: Promoted,
): Promise<{ readonly missing: readonly string[]; readonly changed: readonly string[] }> {
  const missing: string[] = []
  const changed: string[] = []
  for await (const { name, isThere, text } of filesOf(kept, promoted)) {
    if (!isThere) missing.push(name)
    else if (text === undefined) changed.push(name)
  }
  return { missing, changed }
}

function lost(promotion: number, name: string): HenceError {
  return new HenceError(
    'corrections-lost',
    'operator',
    `The corrections of promotion ${promotion} are not whole in the log, and \`${name}\` is not in the data directory as it was. ` +
      'Put that file back from a copy.',
  )
}
