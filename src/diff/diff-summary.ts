import { createHash } from 'node:crypto'
import type { Outcome } from '../app/index.ts'
import { type Difference, lineOf } from './difference.ts'

/** What two derivations have made differently, counted, with examples; plain JSON. */
export interface DiffSummary {
  /** How many differences there are. */
  readonly differences: number
  /**
   * In hexadecimal, of the lines of all differences (see `lineOf`), each with a line break after it: it is what
   * `sha256sum` gives of the full output, and names a diff that somebody approves.
   */
  readonly sha256: string
  /** Rows, by table. */
  readonly tables: readonly DiffGroup[]
  /** Outcomes, by what they were and are, such as `rejected out-of-stock → accepted`; all of them count as changed. */
  readonly outcomes: readonly DiffGroup[]
  /** Effects, by type. */
  readonly effects: readonly EffectGroup[]
  /** Claims that requests hold, by constraint. */
  readonly claims: readonly DiffGroup[]
  /** Keys of which another amount is claimed, or whose limit differs, by constraint. */
  readonly standings: readonly DiffGroup[]
  /** By constraint. */
  readonly violations: readonly DiffGroup[]
  /** Timers that have not gone off, by event. */
  readonly timers: readonly DiffGroup[]
}

/** The part of a summary that a kind of difference is counted in. */
export type DiffPart = Exclude<keyof DiffSummary, 'differences' | 'sha256'>

export interface DiffGroup {
  readonly name: string
  readonly added: number
  readonly removed: number
  readonly changed: number
  /** The first ones. */
  readonly samples: readonly Difference[]
}

export interface EffectGroup extends DiffGroup {
  /** How many of those removed or changed had been delivered as they were before. */
  readonly delivered: number
}

const partOf: Readonly<Record<Difference['kind'], DiffPart>> = {
  row: 'tables',
  outcome: 'outcomes',
  effect: 'effects',
  claim: 'claims',
  standing: 'standings',
  violation: 'violations',
  timer: 'timers',
}

/** All other groups are as many as the apps have definitions; reasons of rejections may be made up at run time. */
const outcomeGroupsMax = 100

/** How differences are summed up. */
export interface SummaryOptions {
  /** How many of each group are kept; default 5. */
  readonly samples?: number
  /** Is called with the line of every difference, without its line break; may give a promise to wait for. */
  readonly each?: (line: string) => unknown
}

/** Counts differences, in one pass. What it holds grows with the groups and their samples, and not with the differences. */
export class Summing {
  readonly #samplesMax: number
  readonly #each: SummaryOptions['each']
  readonly #hash = createHash('sha256')
  readonly #parts: Readonly<Record<DiffPart, Map<string, OpenGroup>>> = {
    tables: new Map(),
    outcomes: new Map(),
    effects: new Map(),
    claims: new Map(),
    standings: new Map(),
    violations: new Map(),
    timers: new Map(),
  }
  #count = 0

  constructor({ samples = 5, each }: SummaryOptions = {}) {
    this.#samplesMax = samples
    this.#each = each
  }

  /** @returns what is to be waited for before another one is added, if anything */
  add(difference: Difference): Promise<unknown> | undefined {
    const line = lineOf(difference)
    this.#hash.update(line).update('\n')
    this.#count++
    const groups = this.#parts[partOf[difference.kind]]
    const name = groupNameOf(difference, groups)
    let group = groups.get(name)
    if (group === undefined) {
      group = { name, added: 0, removed: 0, changed: 0, delivered: 0, samples: [] }
      groups.set(name, group)
    }
    group[changeOf(difference)]++
    if (difference.kind === 'effect' && difference.delivery === 'done') group.delivered++
    if (group.samples.length < this.#samplesMax) group.samples.push(difference)
    const room = this.#each?.(line)
    return room instanceof Promise ? room : undefined
  }

  /** The summary; nothing may be added any more. */
  end(): DiffSummary {
    return {
      differences: this.#count,
      sha256: this.#hash.digest('hex'),
      tables: this.#plain('tables'),
      outcomes: this.#plain('outcomes'),
      effects: inOrder(this.#parts.effects),
      claims: this.#plain('claims'),
      standings: this.#plain('standings'),
      violations: this.#plain('violations'),
      timers: this.#plain('timers'),
    }
  }

  #plain(part: DiffPart): DiffGroup[] {
    return inOrder(this.#parts[part]).map(({ delivered: _, ...group }) => group)
  }
}

/** Sums up differences that are all there. */
export function summarise(differences: Iterable<Difference>, options: SummaryOptions = {}): DiffSummary {
  const summing = new Summing(options)
  for (const difference of differences) summing.add(difference)
  return summing.end()
}

/** Whether something is there now that was not, is gone, or is another one. */
export function changeOf(difference: Difference): 'added' | 'removed' | 'changed' {
  // A request is there on both sides, decided or not.
  if (difference.kind === 'outcome') return 'changed'
  if (difference.before === undefined) return 'added'
  return difference.after === undefined ? 'removed' : 'changed'
}

interface OpenGroup {
  readonly name: string
  added: number
  removed: number
  changed: number
  delivered: number
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
