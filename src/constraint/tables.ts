import type { TableShape } from '../state/table.ts'

/**
 * What constraints remember. Two places know of a claim: the key that it is judged under, and the key of the
 * request that holds it. Messages between them go by way of the log, so what one place grants and the other
 * holds is the same when nothing is under way.
 *
 *   hence.standings    judged key, constraint              → limit, claimed
 *   hence.claims       judged key, constraint, identity    → a claim that was granted
 *   hence.violations   judged key, id                      → a violation and its history
 *   hence.holders      key, scope, identity of a request   → what it holds or asks for
 */
export const standings: TableShape = { name: 'hence.standings', parts: ['string'], indexes: {} }

export const claims: TableShape = {
  name: 'hence.claims',
  parts: ['string', 'string'],
  // In this order claims give way: what was confirmed cannot be helped easily any more, so it comes last.
  indexes: { victims: ['constraint', 'confirmed', 'rank', 'order'] },
}

export const violations: TableShape = {
  name: 'hence.violations',
  parts: ['string'],
  indexes: { byState: ['state', 'at'] },
}

/** Tables of Hence's own that operators read like those of the app, with their changes. */
export const operatorTables: ReadonlyMap<string, TableShape> = new Map([[violations.name, violations]])

export const holders: TableShape = { name: 'hence.holders', parts: ['string', 'string'], indexes: {} }

/** How much of a key is claimed. */
export interface Standing {
  readonly limit: number
  readonly claimed: number
  /** How much above the limit an operator has let stand. */
  readonly waived: number
  /** Whether the margin has ended. */
  readonly settled: boolean
  /** How many claims there have ever been. */
  readonly count: number
  /** The violation that is not resolved yet. */
  readonly violation: string | null
}

/** A claim, at the key that judges it. */
export interface ClaimRow {
  readonly constraint: string
  readonly units: number
  readonly priority: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly confirmed: boolean
  /** The key of the request that holds it, and its scope. */
  readonly holder: string
  readonly scope: string
  readonly rank: number
  readonly order: number
}

/** A claim, at the request that holds it. */
export interface HeldClaim {
  readonly constraint: string
  readonly key: string
  readonly units: number
  readonly priority: number
  readonly strict: boolean
}

/** A request that holds claims or asks for them. */
export interface ClaimHolder {
  /** `asking`: strict claims are not all granted yet; `standing`: the request was accepted. */
  readonly state: 'asking' | 'standing'
  readonly type: string
  /** The version of the request that the input is of; rows without it are of version 1. */
  readonly version?: number
  /** JSON text of what its schema gave. */
  readonly input: string
  readonly rootPartition: number
  readonly rootOffset: number
  /** Strict ones first, in the order in which they are asked for. */
  readonly claims: readonly HeldClaim[]
  /** How many were granted. */
  readonly granted: number
}

/** More is claimed than there is. */
export interface Violation {
  readonly id: string
  readonly constraint: string
  readonly scope: string
  /** `open`: waits for an operator; `compensating`: victims have been told; `resolved`: nothing is left to do. */
  readonly state: 'open' | 'compensating' | 'resolved'
  /** When it was noticed: log time, in milliseconds since 1970. */
  readonly at: number
  /** How much too much is claimed now. */
  readonly excess: number
  /** When the policy decides if no operator does; null where it decides at once. */
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
   * `told`: its compensation is under way; `compensated`: it ran; `released`: the claim had been given back by
   * then; `failed`: the compensation threw.
   */
  readonly state: 'told' | 'compensated' | 'released' | 'failed'
}

export interface HistoryEntry {
  readonly at: number
  /** `grew`: more was claimed; one entry for the last time and the amount by then, until something else happens. */
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
  /** How much too much was claimed then, or what an operator let stand or added. */
  readonly units: number
  /** Who decided, for what an operator did. */
  readonly by?: { readonly requestId: string; readonly principal: string }
  readonly reason?: string
}
