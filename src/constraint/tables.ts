import type { Constraint } from '../app/index.ts'
import type { Codec } from '../state/cells.ts'
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
 *   hence.victims      judged key, violation, n            → a victim of it, numbered as they were chosen
 *   hence.holders      key, scope, identity of a request   → the claims it holds or asks for
 *   hence.inputs       partition, group of offsets         → the inputs of these requests, in their order
 */
/** The usage of each key. The stored name is older than the word. */
export const usage: TableShape = {
  name: 'hence.standings',
  parts: ['string'],
  indexes: {},
  rowBytes: () => 120,
}

/** The fields of a claim as a list, since there are very many: the names take longer to write than the values. */
const claimText: Codec<unknown> = {
  encode(row: unknown): string {
    const { constraint, units, priority, at, confirmed, holder, scope, rank, order, served, exchanging } =
      row as ClaimRow
    const list = [constraint, units, priority, at, confirmed, holder, scope, rank, order]
    return JSON.stringify(served || exchanging ? [...list, served, exchanging] : list)
  },
  decode(text: string): ClaimRow {
    const [constraint, units, priority, at, confirmed, holder, scope, rank, order, served, exchanging] =
      JSON.parse(text)
    const row = { constraint, units, priority, at, confirmed, holder, scope, rank, order }
    return { ...row, ...(served && { served }), ...(exchanging && { exchanging }) }
  },
}

export const claims: TableShape = {
  name: 'hence.claims',
  parts: ['string', 'string'],
  // The order in which claims give way: confirmed ones last, since they are the hardest to undo. It holds the
  // claims of a key from its first excess on: see `Usage.ordered`.
  indexes: { victims: ['constraint', 'confirmed', 'rank', 'order'] },
  isScoped: true,
  text: claimText,
  rowBytes: (row) => 100 + (row as ClaimRow).holder.length,
}

export const violations: TableShape = {
  name: 'hence.violations',
  parts: ['string'],
  indexes: { byState: ['state', 'at'] },
}

/** A table of their own, so that the row of a violation does not grow with its victims. */
export const victims: TableShape = { name: 'hence.victims', parts: ['string', 'number'], indexes: {} }

export const waiters: TableShape = {
  name: 'hence.waiters',
  parts: ['string', 'string'],
  indexes: { line: ['constraint', 'number'] },
}

/** System tables that operators read, with their changes, like those of the app. */
export const operatorTables: ReadonlyMap<string, TableShape> = new Map(
  [violations, victims, waiters].map((table) => [table.name, table]),
)

/** Whether a collection holds rows that an app or an operator can read. */
export function isReadable(collection: string): boolean {
  let found = readable.get(collection)
  if (found === undefined) {
    const isOfApp = collection.startsWith('t:') && !collection.startsWith('t:hence.')
    found = isOfApp || operatorTables.has(collection.slice(2))
    readable.set(collection, found)
  }
  return found
}

/** The answers of `isReadable`, which is asked for every change. */
const readable = new Map<string, boolean>()

/** Consecutive claims that differ in keys and units alone: `constraint, strict, key, units, key, units …`. */
type ClaimRun = [constraint: string, strict: 0 | 1, ...keysAndUnits: (string | number)[]]

/** Short text for the holder of many claims. */
const holderText: Codec<unknown> = {
  encode(row: unknown): string {
    const lists: (ClaimRun | HeldClaim)[] = []
    for (const claim of (row as ClaimHolder).claims) {
      const { constraint, key, units, priority, strict, ...more } = claim
      if (priority !== 0 || Object.keys(more).length > 0) {
        lists.push(claim)
        continue
      }
      const run = lists.at(-1)
      const mode = strict ? 1 : 0
      if (Array.isArray(run) && run[0] === constraint && run[1] === mode) run.push(key, units)
      else lists.push([constraint, mode, key, units])
    }
    return JSON.stringify({ ...(row as ClaimHolder), claims: lists })
  },
  decode(text: string): ClaimHolder {
    const row = JSON.parse(text)
    const claims = row.claims.flatMap((list: ClaimRun | HeldClaim): HeldClaim | HeldClaim[] => {
      if (!Array.isArray(list)) return list
      const [constraint, mode, ...pairs] = list
      return Array.from({ length: pairs.length / 2 }, (_, i) => {
        const [key, units] = [pairs[2 * i] as string, pairs[2 * i + 1] as number]
        return { constraint, key, units, priority: 0, strict: mode === 1 }
      })
    })
    return { ...row, claims }
  },
}

export const holders: TableShape = {
  name: 'hence.holders',
  parts: ['string', 'string'],
  indexes: {},
  text: holderText,
  rowBytes(row) {
    let bytes = 100
    for (const { constraint, key, instead = [] } of (row as ClaimHolder).claims) {
      bytes += 50 + constraint.length + key.length
      for (const identity of instead) bytes += identity.length
    }
    return bytes
  },
}

/**
 * The inputs of requests that hold claims, for their compensations: rows apart, since they never change, and
 * of several requests together, since the store compresses large values well.
 */
const inputs: TableShape = {
  name: 'hence.inputs',
  parts: ['number'],
  indexes: {},
  isCold: true,
  rowBytes(row) {
    let bytes = 0
    for (const input of row as Inputs) bytes += 8 + (input?.length ?? 0)
    return bytes
  },
}

/** How many consecutive records of a partition keep their inputs in one row. */
export const inputsPerRow = 32

/** By the offset within the group, up to the last one; null for records that hold no claims. */
export type Inputs = readonly (string | null)[]

export const constraintTables = { usage, claims, waiters, violations, victims, holders, inputs }

/** The units claimed of a constraint at one key, and how its limit there differs from the declared one. */
export interface Usage {
  /** The limit that was set; null while none was. */
  readonly set: number | null
  /** Units that were added to the set or declared limit. */
  readonly adjusted: number
  readonly claimed: number
  readonly confirmed: number
  /** The excess that an operator has waived. */
  readonly waived: number
  /** Whether `settle` has ended the margin. */
  readonly settled: boolean
  /** While `settle` releases claims: those granted at a lower number. They count no more. */
  readonly settling: number | null
  /** The number of claims ever granted or queued, and of times that `settle` ran. */
  readonly count: number
  /** The number of claims that have no units yet, see `ClaimRow.exchanging`; none if absent. */
  readonly empty?: number
  /** The number of claims that wait, and what they take up. */
  readonly waiting: number
  readonly waitingBytes: number
  /** The id of the open violation. */
  readonly violation: string | null
  /** Whether its claims are indexed in the order in which they give way; most keys never need that. */
  readonly ordered?: true
}

/** Where nothing was claimed or set. */
export const unused: Usage = {
  set: null,
  adjusted: 0,
  claimed: 0,
  confirmed: 0,
  waived: 0,
  settled: false,
  settling: null,
  count: 0,
  waiting: 0,
  waitingBytes: 0,
  violation: null,
}

/** The limit at a key, without the margin. */
export function limitOf(
  { limit }: Pick<Constraint, 'limit'>,
  { set, adjusted }: Pick<Usage, 'set' | 'adjusted'>,
): number {
  return Math.max(0, (set ?? limit) + adjusted)
}

export function limitWithMargin(constraint: Constraint, usage: Usage): number {
  const { overbook } = constraint
  const limit = limitOf(constraint, usage)
  if (usage.settled) return limit
  return limit + (typeof overbook === 'number' ? overbook : Math.floor((limit * overbook.percent) / 100))
}

/** The units that must give way. */
export function excessOf(constraint: Constraint, usage: Usage): number {
  return Math.max(0, usage.claimed - limitWithMargin(constraint, usage) - usage.waived)
}

/** The part of a usage that apps and operators see. */
export type UsageShown = { readonly limit: number; readonly excess: number } & Pick<Usage, 'claimed'> &
  Partial<Pick<Usage, 'waiting'>>

/** @param usage undefined: as declared, with nothing claimed */
export function usageShown(constraint: Constraint, usage: Usage = unused): UsageShown {
  const { claimed, waiting } = usage
  const [limit, excess] = [limitOf(constraint, usage), excessOf(constraint, usage)]
  const hasLine = constraint.waitingList !== undefined || waiting > 0
  return { limit, claimed, excess, ...(hasLine && { waiting }) }
}

/** A claim as stored under the key that judges it. */
export interface ClaimRow {
  /**
   * Set if it is in the index `victims`: null while `Usage.ordered` is not set, or if it cannot give way,
   * because it has no units yet; see `exchanging`.
   */
  readonly constraint: string | null
  readonly units: number
  readonly priority: number
  /** Log time, in milliseconds since 1970. */
  readonly at: number
  readonly confirmed: boolean
  /** The partition key of the request that holds it, and its scope. */
  readonly holder: string
  readonly scope: string
  /** How it gives way under the policy in force: by rank, then by order, its number or the negative of it. */
  readonly rank: number
  readonly order: number
  /** For a claim that waited: the number of claims when it was served. `settle` sees it as no older. */
  readonly served?: number
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
  /** Names the messages about its end, whichever step serves it. */
  readonly id: string
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
  readonly waiting?: true
}

/** A request that holds claims or asks for them. */
export interface ClaimHolder {
  /** `asking`: some strict claims are not judged yet; `standing`: the request was accepted. */
  readonly state: 'asking' | 'standing'
  readonly type: string
  /** The version of the input; 1 if absent. */
  readonly version?: number
  /** Its position in the log; its input stands apart, see `inputOf`. */
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
  /** Units of which the policy has still to choose the victims; 0 unless it was decided that it does. */
  readonly choosing: number
  /** How many victims there are, by their state. */
  readonly counts: Readonly<Record<Victim['state'], number>>
  readonly history: readonly HistoryEntry[]
}

export interface Victim {
  readonly requestId: string
  readonly principal: string
  readonly key: string
  readonly units: number
  /**
   * `told`: notified, its compensation is under way; `compensated`: the compensation ran; `released`: the
   * request had already released the claim; `failed`: the compensation threw; `queued`: it waits instead.
   */
  readonly state: 'told' | 'compensated' | 'released' | 'failed' | 'queued'
}

export function victimCount(counts: Violation['counts']): number {
  return Object.values(counts).reduce((sum, each) => sum + each, 0)
}

export interface HistoryEntry {
  readonly at: number
  /**
   * `grew`: more was claimed; consecutive growth is one entry, with the latest time and excess.
   * `victims-chosen`: so are consecutive choices, with the sum of their units.
   */
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
