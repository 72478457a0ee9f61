import { operatorError } from '../failure.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import { type ControlRecord, rulesNow, rulesOldest } from './record.ts'

/** A change of code or of the live generation, as the log records it. */
export type ControlFact = {
  readonly number: number
  readonly generation: number
  readonly version: string
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  /** Its offset in each partition. */
  readonly positions: readonly number[]
} & (
  | {
      readonly type: 'version'
      /** The version that was in force until here; undefined at the beginning of a log. */
      readonly before?: string
      /** By partition: how many records of filled rows follow. */
      readonly filled?: readonly number[]
    }
  | {
      readonly type: 'promotion'
      readonly before: number
      readonly principal: string
      readonly requestId: string
      readonly diff: string
      readonly note?: string
      readonly corrections: number
      /** SHA-256 of the corrections' texts. */
      readonly correctionsHash: string
      /** The version of its code at the beginning of the log. */
      readonly base: string
    }
)

/** Returns the generation that is live after some control records. */
export function liveOf(history: readonly ControlFact[]): number {
  return history.findLast(({ type }) => type === 'promotion')?.generation ?? 0
}

/** Returns a generation and its ancestors, whose corrections apply to it too: the live ones at promotions. */
export function lineageOf(history: readonly ControlFact[], generation: number): readonly number[] {
  const first = history.find((fact) => fact.type === 'promotion' && fact.generation === generation)
  const before = first?.type === 'promotion' ? first.before : liveOf(history)
  // A generation has a greater number than all that existed when it began; the first has no parent.
  return before < generation ? [generation, ...lineageOf(history, before)] : [generation]
}

/** Returns the version of a generation's code after some control records; undefined if they do not say. */
export function versionOf(history: readonly ControlFact[], generation: number): string | undefined {
  return history.findLast((fact) => fact.generation === generation)?.version
}

/** Returns the version of a generation's code at the beginning of the log; undefined if no control record says. */
export function baseOf(history: readonly ControlFact[], generation: number): string | undefined {
  const first = history.find((fact) => fact.generation === generation)
  if (first === undefined) return undefined
  return first.type === 'promotion' ? first.base : (first.before ?? first.version)
}

/** Whether a version of the code derived a record when it was live, in a generation from this number on. */
export function wasLiveAt(
  history: readonly ControlFact[],
  { partition, offset }: { readonly partition: number; readonly offset: number },
  generation: number,
  version: string,
): boolean {
  const before = history.filter(({ positions }) => positions[partition]! < offset)
  const live = liveOf(before)
  return live >= generation && (versionOf(before, live) ?? baseOf(history, live)) === version
}

export function factOf(
  generation: number,
  control: ControlRecord['control'],
  positions: readonly { readonly offset: number; readonly time: number }[],
): ControlFact {
  const { number, version } = control
  if (control.type === 'version') {
    const { rules = 1 } = control
    if (rules < rulesOldest || rules > rulesNow) throw otherRules(number, rules)
  }
  const at = Math.max(...positions.map(({ time }) => time))
  const fact = { number, generation, version, at, positions: positions.map(({ offset }) => offset) }
  if (control.type === 'version') {
    const { before, filled } = control
    return { ...fact, type: 'version', ...(before !== undefined && { before }), ...(filled && { filled }) }
  }
  const { before, base, identity, diff, note, corrections, correctionsHash } = control
  return {
    ...fact,
    type: 'promotion',
    before,
    base,
    principal: principalOf(identity),
    requestId: requestIdOf(identity),
    diff,
    ...(note !== undefined && { note }),
    corrections,
    correctionsHash,
  }
}

const otherRules = (number: number, rules: number) =>
  operatorError(
    'rules-unknown',
    `Control record ${number} of the log puts the rules of deriving number ${rules} in force, and this ` +
      `version of Hence has ${rulesNow}. ` +
      (rules > rulesNow
        ? 'Use the version of Hence that wrote it, or a later one.'
        : 'No release has written such a log: export its requests with the version that wrote it, and ' +
          'import them into a new one.'),
  )
