import type { Constraint } from '../app/index.ts'
import type { TableShape } from '../state/table.ts'

/**
 * The system tables of constraints. A claim is recorded twice: under the key that judges it and under the key
 * of the request that holds it. Messages between the two go through the log, so both agree when none is under
 * way.
 *
 *   hence.standings    judged key, constraint              → limit, units claimed
 *   hence.claims       judged key, constraint, identity    → a granted claim
 *   hence.waiters      judged key, constraint, identity    → a claim that waits
 *   hence.violations   judged key, id                      → a violation and its history
 *   hence.holders      key, scope, identity of a request   → the claims it holds or asks for
 */
/** The usage of each key. The stored name is older than the word. */
export const usage: TableShape = { name: 'hence.standings', parts: ['string'], indexes: {} }

export const claims: TableShape = {
  name: 'hence.claims',
  parts: ['string', 'string'],
  // The order in which claims give way: confirmed ones last, since they are the hardest to undo.
  indexes: { victims: ['constraint', 'confirmed', 'rank', 'order'] },
}

export const violations: TableShape = {
  name: 'hence.violations',
  parts: ['string'],
  indexes: { byState: ['state', 'at'] },
}

export const waiters: TableShape = {
  name: 'hence.waiters',
  parts: ['string', 'string'],
  indexes: { line: ['constraint', 'number'] },
}

/** System tables that operators read, with their changes, like those of the app. */
export const operatorTables: ReadonlyMap<string, TableShape> = new Map(
  [violations, waiters].map((table) => [table.name, table]),
)

export const holders: TableShape = { name: 'hence.holders', parts: ['string', 'string'], indexes: {} }

export const constraintTables = { usage, claims, waiters, violations, holders }

/** The limit of a constraint at one key, and the units claimed. */
export interface Usage {
  readonly limit: number
  readonly claimed: number
  /** The excess that an operator has waived. */
  readonly waived: number
  /** Whether `settle` has ended the margin. */
  readonly settled: boolean
  /** The number of claims ever granted or queued. */
  readonly count: number
  /** The number of claims that wait, and what they take up. */
  readonly waiting: number
  readonly waitingBytes: number
  /** The id of the open violation. */
  readonly violation: string | null
}

/** The part of a usage that apps and operators see. */
export type UsageShown = Pick<Usage, 'limit' | 'claimed'> & Partial<Pick<Usage, 'waiting'>>

/** @param usage undefined: as declared, with nothing claimed */
export function usageShown(constraint: Constraint, usage: Usage | undefined): UsageShown {
  const { limit, claimed, waiting } = usage ?? { limit: constraint.limit, claimed: 0, waiting: 0 }
  return { limit, claimed, ...(constraint.waitingList && { waiting }) }
}

/** A claim as stored under the key that judges it. */
export interface ClaimRow {
  /** Null if it cannot give way, because it has no units yet: see `exchanging`. */
  readonly constraint: string | null
  readonly units: number
  readonly priority: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly confirmed: boolean
  /** The partition key of the request that holds it, and its scope. */
  readonly holder: string
  readonly scope: string
  readonly rank: number
  readonly order: number
  /** It was granted in exchange for others, which the request still holds; these are the units it adds. */
  readonly exchanging?: true
}

/** A claim on the waiting list of the key that judges it. */
export interface WaiterRow extends Pick<ClaimRow, 'units' | 'priority' | 'holder' | 'scope'> {
  readonly constraint: string
  /** Its place in line: the number of the claim among those of the key. */
  readonly number: number
  /** Since when it waits: log time, in milliseconds since 1970. */
  readonly at: number
  readonly bytes: number
}

/** A claim as stored with the request that holds it. */
export interface HeldClaim {
  readonly constraint: string
  readonly key: string
  readonly units: number
  readonly priority: number
  readonly strict: boolean
  /** The requests whose claims it is to replace, until its own request is decided. */
  readonly instead?: readonly string[]
  /** Whether it may wait, until its own request is decided. */
  readonly wait?: true
  /** Whether it waits. */
  readonly waiting?: true
}

/** A request that holds claims or asks for them. */
export interface ClaimHolder {
  /** `asking`: some strict claims are not judged yet; `standing`: the request was accepted. */
  readonly state: 'asking' | 'standing'
  readonly type: string
  /** The version of the input; 1 if absent. */
  readonly version?: number
  /** The schema's output, as JSON text. */
  readonly input: string
  readonly rootPartition: number
  readonly rootOffset: number
  /** Log time of the request, in milliseconds since 1970. */
  readonly at: number
  /** In the order of `claimsInOrder`, strict ones first. */
  readonly claims: readonly HeldClaim[]
  /** The number of strict claims granted so far. */
  readonly granted: number
}

/** An excess of claims over the limit. */
export interface Violation {
  readonly id: string
  readonly constraint: string
  readonly scope: string
  /** `open`: waits for an operator; `compensating`: victims are notified; `resolved`: all are compensated. */
  readonly state: 'open' | 'compensating' | 'resolved'
  /** When it was detected: log time, in milliseconds since 1970. */
  readonly at: number
  /** The units claimed in excess now. */
  readonly excess: number
  /** When the policy decides if no operator does, as log time; null if it decides at once. */
  readonly deadline: number | null
  readonly victims: readonly Victim[]
  readonly history: readonly HistoryEntry[]
}

export interface Victim {
  readonly requestId: string
  readonly principal: string
  /** The key of the request. */
  readonly key: string
  readonly units: number
  /**
   * `told`: notified, its compensation is under way; `compensated`: the compensation ran; `released`: the
   * request had already released the claim; `failed`: the compensation threw; `queued`: it waits instead.
   */
  readonly state: 'told' | 'compensated' | 'released' | 'failed' | 'queued'
}

export interface HistoryEntry {
  readonly at: number
  /** `grew`: more was claimed; consecutive growth is one entry, with the latest time and excess. */
  readonly what:
    | 'noticed'
    | 'grew'
    | 'cleared'
    | 'deadline-passed'
    | 'compensate'
    | 'choose'
    | 'waive'
    | 'raise-limit'
    | 'victims-chosen'
    | 'resolved'
  /** The excess at that time, or the units that an operator waived or added. */
  readonly units: number
  /** The operator's request, for an operator's decision. */
  readonly by?: { readonly requestId: string; readonly principal: string }
  readonly reason?: string
}
