import { principalOf, requestIdOf } from '../identity.ts'
import type { ControlRecord } from './record.ts'

/** A change of code or of the live generation, as it stands in the log. */
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
    }
  | {
      readonly type: 'promotion'
      readonly before: number
      readonly principal: string
      readonly requestId: string
      readonly diff: string
      readonly note?: string
      readonly corrections: number
      /** SHA-256 of their texts. */
      readonly correctionsHash: string
      /** The version of its code at the beginning of the log. */
      readonly base: string
    }
)

/** The generation that is live after some control records. */
export function liveOf(history: readonly ControlFact[]): number {
  return history.findLast(({ type }) => type === 'promotion')?.generation ?? 0
}

/**
 * A generation, the one that was live when it was promoted, or is live as long as it was not, the one that was live before that, and so on:
 * what was made good in the tables of those was made good in its own.
 */
export function lineageOf(history: readonly ControlFact[], generation: number): readonly number[] {
  const first = history.find((fact) => fact.type === 'promotion' && fact.generation === generation)
  const before = first?.type === 'promotion' ? first.before : liveOf(history)
  // Each has a greater number than all that were there when it began; the first one follows none.
  return before < generation ? [generation, ...lineageOf(history, before)] : [generation]
}

/** The version of a generation's code after some control records; undefined when none says it. */
export function versionOf(history: readonly ControlFact[], generation: number): string | undefined {
  return history.findLast((fact) => fact.generation === generation)?.version
}

/** The version of a generation's code at the beginning of the log; undefined when no control record says it. */
export function baseOf(history: readonly ControlFact[], generation: number): string | undefined {
  const first = history.find((fact) => fact.generation === generation)
  if (first === undefined) return undefined
  return first.type === 'promotion' ? first.base : (first.before ?? first.version)
}

export function factOf(
  generation: number,
  control: ControlRecord['control'],
  places: readonly { readonly offset: number; readonly time: number }[],
): ControlFact {
  const { number, version } = control
  const at = Math.max(...places.map(({ time }) => time))
  const fact = { number, generation, version, at, positions: places.map(({ offset }) => offset) }
  if (control.type === 'version') {
    return { ...fact, type: 'version', ...(control.before !== undefined && { before: control.before }) }
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
