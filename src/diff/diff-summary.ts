import { createHash } from 'node:crypto'
import type { Outcome } from '../app/index.ts'
import { assert } from '../assert.ts'
import { type Difference, lineOf } from './difference.ts'

/** The differences of two derivations: counts and samples. Plain JSON. */
export interface DiffSummary {
  readonly differences: number
  /**
   * SHA-256 in hexadecimal of the lines of all differences, each followed by a line break: what `sha256sum`
   * prints for the full output. It names the diff in an approval.
   */
  readonly sha256: string
  /** Rows, by table. */
  readonly tables: readonly DiffGroup[]
  /** Outcomes, by both sides, for example `rejected out-of-stock → accepted`; all count as changed. */
  readonly outcomes: readonly DiffGroup[]
  /** Effects, by type. */
  readonly effects: readonly EffectGroup[]
  /** Claims, by constraint. */
  readonly claims: readonly DiffGroup[]
  /** Keys whose claimed amount or limit differs, by constraint. */
  readonly usage: readonly DiffGroup[]
  /** Violations, by constraint. */
  readonly violations: readonly DiffGroup[]
  /** Timers that have not fired, by event. */
  readonly timers: readonly DiffGroup[]
}

/** A part of a summary; each kind of difference is counted in one. */
export type DiffPart = Exclude<keyof DiffSummary, 'differences' | 'sha256'>

export interface DiffGroup {
  readonly name: string
  readonly added: number
  readonly removed: number
  readonly changed: number
  /** The first differences of the group. */
  readonly samples: readonly Difference[]
}

interface EffectGroup extends DiffGroup {
  /** How many of the removed or changed effects had been delivered. */
  readonly delivered: number
}

const partOf: Readonly<Record<Difference['kind'], DiffPart>> = {
  row: 'tables',
  outcome: 'outcomes',
  effect: 'effects',
  claim: 'claims',
  usage: 'usage',
  violation: 'violations',
  timer: 'timers',
}

/** A bound, because an app may make up reasons of rejections. Its definitions bound all other groups. */
const outcomeGroupsMax = 100

export interface SummaryOptions {
  /** How many differences of each group become samples; default 5. */
  readonly samples?: number | undefined
  /** Called with the line of every difference, without its line break; a promise that it returns is awaited. */
  readonly each?: ((line: string) => unknown) | undefined
}

/** Counts differences in one pass. Memory grows with the number of groups and samples, not of differences. */
export class Summariser {
  readonly #samplesMax: number
  readonly #each: SummaryOptions['each']
  readonly #hash = createHash('sha256')
  readonly #parts = new Map(Object.values(partOf).map((part) => [part, new Map<string, OpenGroup>()]))
  #count = 0

  constructor({ samples = 5, each }: SummaryOptions = {}) {
    this.#samplesMax = samples
    this.#each = each
  }

  /** @returns a promise to await before the next call, if the reader of the lines asks for that */
  add(difference: Difference): Promise<unknown> | undefined {
    const line = lineOf(difference)
    this.#hash.update(line).update('\n')
    this.#count++
    const groups = this.#parts.get(partOf[difference.kind])!
    const name = groupNameOf(difference, groups)
    let group = groups.get(name)
    if (group === undefined) {
      const delivered = difference.kind === 'effect' && { delivered: 0 }
      group = { name, added: 0, removed: 0, changed: 0, ...delivered, samples: [] }
      groups.set(name, group)
    }
    group[changeOf(difference)]++
    if (difference.kind === 'effect' && difference.delivery === 'done') group.delivered!++
    if (group.samples.length < this.#samplesMax) group.samples.push(difference)
    const room = this.#each?.(line)
    return room instanceof Promise ? room : undefined
  }

  /** Returns the summary; call it once, last. */
  end(): DiffSummary {
    const groups = [...this.#parts.values()].flatMap((part) => [...part.values()])
    const counted = groups.reduce((sum, { added, removed, changed }) => sum + added + removed + changed, 0)
    assert(counted === this.#count, 'the groups of a diff count every difference once', counted, this.#count)
    const parts = [...this.#parts].map(([part, found]) => [part, inOrder(found)] as const)
    const summary = { differences: this.#count, sha256: this.#hash.digest('hex') }
    return { ...summary, ...(Object.fromEntries(parts) as unknown as Pick<DiffSummary, DiffPart>) }
  }
}

export function changeOf(difference: Difference): 'added' | 'removed' | 'changed' {
  // The request is on both sides, even where it is undecided.
  if (difference.kind === 'outcome') return 'changed'
  if (difference.before === undefined) return 'added'
  return difference.after === undefined ? 'removed' : 'changed'
}

interface OpenGroup extends DiffGroup {
  added: number
  removed: number
  changed: number
  delivered?: number
  readonly samples: Difference[]
}

function inOrder(groups: ReadonlyMap<string, OpenGroup>): OpenGroup[] {
  return [...groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function groupNameOf(difference: Difference, groups: ReadonlyMap<string, unknown>): string {
  switch (difference.kind) {
    case 'row':
      return difference.table
    case 'outcome': {
      const { before, after } = difference
      const name = `${outcomeName(before)} → ${outcomeName(after)}`
      if (groups.has(name) || groups.size < outcomeGroupsMax) return name
      return `${before?.status ?? undecided} → ${after?.status ?? undecided}`
    }
    case 'effect':
      return (difference.after ?? difference.before)!.type
    case 'timer':
      return difference.event
    default:
      return difference.constraint
  }
}

const undecided = 'undecided'

function outcomeName(outcome: Outcome | undefined): string {
  switch (outcome?.status) {
    case undefined:
      return undecided
    case 'accepted':
      return 'accepted'
    case 'rejected':
      return `rejected ${outcome.reason}`
    case 'failed':
      return `failed ${outcome.code}`
  }
}
