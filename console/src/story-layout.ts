import type { EffectState, LogRecord, Story } from './api.ts'

// The picture of a request: its steps and effects as rows, the causes between them, and a time axis whose
// idle spans are folded.

export type Step = Story['steps'][number]

export interface StepRow {
  readonly kind: 'step'
  readonly step: Step
  /** Its number among the steps. */
  readonly number: number
  /** The row that caused it. */
  readonly cause: number | undefined
  /** The cause, where it belongs to another request: that one, or the position of its record. */
  readonly outside: { readonly token: string; readonly record?: LogRecord } | undefined
  readonly at: number
}

export interface EffectRow {
  readonly kind: 'effect'
  readonly effect: EffectState
  readonly cause: number
  readonly at: number
}

export type PictureRow = StepRow | EffectRow

/** @param records of the steps that begin with a record of their own, by token; it may lack some */
export function rowsOf(
  { requestId, principal, steps }: Story,
  records: ReadonlyMap<string, LogRecord>,
): readonly PictureRow[] {
  const rows: PictureRow[] = []
  const byToken = new Map<string, number>()
  const byEffect = new Map<string, number>()
  for (const [number, step] of steps.entries()) {
    const record = records.get(step.token)
    // Further derivations of one record follow from the first.
    const same = byToken.get(step.token)
    const named = record?.effect === undefined ? record?.cause : undefined
    const cause =
      same ??
      (record?.effect !== undefined ? byEffect.get(record.effect) : undefined) ??
      (named === undefined ? undefined : byToken.get(named)) ??
      (record === undefined || step.kind === 'correction' ? emitterOf(rows, step) : undefined)
    // An event that stays in its partition has no record of its own: its step begins with that of its cause,
    // which may belong to another request.
    const isForeign =
      record?.requestId !== undefined &&
      (record.requestId !== requestId || (record.principal ?? '') !== principal)
    const foreign = isForeign ? { token: step.token, record } : named && { token: named }
    const outside = cause === undefined && number > 0 ? foreign || undefined : undefined
    const at = rows.push({ kind: 'step', step, number, cause, outside, at: step.at }) - 1
    if (same === undefined) byToken.set(step.token, at)
    for (const effect of step.effects) {
      byEffect.set(effect.id, rows.push({ kind: 'effect', effect, cause: at, at: effect.at }) - 1)
    }
  }
  return rows
}

/** Without the record: the last row that emitted this event, or the request. */
function emitterOf(rows: readonly PictureRow[], { type, key }: Step): number | undefined {
  const emitter = rows.findLastIndex(
    (row) => row.kind === 'step' && row.step.events.some((event) => event.type === type && event.key === key),
  )
  return emitter !== -1 ? emitter : rows.length > 0 ? 0 : undefined
}

export interface Axis {
  /** The place of a log time, in per cent of the width. */
  x(at: number): number
  readonly marks: readonly { readonly at: number; readonly x: number }[]
  /** Spans without anything, drawn shorter than they were. */
  readonly folds: readonly { readonly x: number; readonly ms: number }[]
}

/** A span longer than this is folded if it is most of the whole, too. */
const foldedMs = 1_000
const foldedShare = 0.3

export function axisOf(times: readonly number[]): Axis {
  const sorted = [...new Set(times)].sort((a, b) => a - b)
  const first = sorted[0] ?? 0
  const whole = (sorted.at(-1) ?? 0) - first
  const widths: number[] = []
  const isFolded = (ms: number) => ms > foldedMs && ms > whole * foldedShare
  const rest = sorted.slice(1).reduce((sum, at, i) => {
    const ms = at - sorted[i]!
    return isFolded(ms) ? sum : sum + ms
  }, 0)
  for (const [i, at] of sorted.slice(1).entries()) {
    const ms = at - sorted[i]!
    // Every time has some room of its own, so that records of one millisecond stay apart from the next.
    widths.push(isFolded(ms) ? 0.6 : 0.25 + (rest === 0 ? 0 : (2 * ms) / rest))
  }
  const total = widths.reduce((sum, width) => sum + width, 0) || 1
  const places = new Map<number, number>([[first, 2]])
  const folds: { x: number; ms: number }[] = []
  let x = 2
  for (const [i, width] of widths.entries()) {
    const before = x
    x += (96 * width) / total
    places.set(sorted[i + 1]!, x)
    const ms = sorted[i + 1]! - sorted[i]!
    if (isFolded(ms)) folds.push({ x: (before + x) / 2, ms })
  }
  const ends = sorted.length === 1 ? [first] : [first, sorted.at(-1)!]
  return { x: (at) => places.get(at) ?? 2, marks: ends.map((at) => ({ at, x: places.get(at)! })), folds }
}
