import type { App } from '../app/index.ts'
import { upcastToNewest } from '../app/version.ts'
import { operatorRequests } from '../derivation/operator.ts'
import { comparedCollections, comparison } from '../diff/diff.ts'
import { type DiffSummary, type SummaryOptions, Summing } from '../diff/diff-summary.ts'
import type { HenceError } from '../failure.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import type { Position } from '../log/log.ts'
import { decodeRecord, type RequestRecord } from '../log/record.ts'
import { recordsAt } from '../log/records-at.ts'
import { replay } from '../processor/replay.ts'
import { checkPartitionKey } from '../state/keys.ts'
import type { StoreView } from '../state/store.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { Candidate, CandidateOptions, CorrectionFiles, Live, PromotionToCome } from './candidate.ts'
import { writeCorrectionFiles } from './correction-files.ts'
import { type CorrectedRequest, Corrections } from './corrections.ts'
import { type Cut, Follower, type FollowerHost, type Progress } from './follower.ts'
import { Pace } from './pace.ts'

/** What one that is derived in this process needs of what is around it. */
export interface Surroundings extends Omit<FollowerHost, 'log'> {
  readonly generations: GenerationHost
  /** The app of a version as what is outside derivations needs it. */
  hostAppOf(version: string): Promise<App>
  /** How much of the time a diff takes, when nobody has said how much deriving may. */
  readonly diffShare: number
  /** What the live generation has saved. */
  viewLive(live: Live): Promise<Side>
  keep(name: string, text: string): Promise<void>
}

/** What is compared: an app, and what it has derived. */
export interface Side {
  readonly app: App
  readonly version: string
  readonly store: StoreView
}

/** A generation that is derived beside the live one in this process. */
export class CandidateInProcess implements Candidate {
  readonly wasLive: boolean
  readonly #around: Surroundings
  readonly #derived: Generation
  readonly #following: Follower
  #share: number | undefined
  #sides: { readonly before: Side; readonly after: Side } | undefined
  /** What reads the views of both. */
  #reading: Promise<unknown> = Promise.resolve()
  #over: HenceError | undefined
  /** Ends a comparison that waits for its reader. */
  #stop: (why: Error) => void = () => {}
  /** Those of a promotion that is on its way. */
  #corrections: Corrections | undefined

  static async open(around: Surroundings, options: CandidateOptions): Promise<CandidateInProcess> {
    const { lineage, base, anew } = options
    const program = () => around.generations.programOf(base)
    const derived = await Generation.open(around.generations, lineage, program, anew)
    const other = new CandidateInProcess(around, derived, options)
    if (!options.paused) await other.start()
    return other
  }

  private constructor(
    around: Surroundings,
    derived: Generation,
    { wasLive, share, paused }: CandidateOptions,
  ) {
    this.#around = around
    this.#derived = derived
    this.wasLive = wasLive
    this.#share = share
    const host: FollowerHost = {
      ...around,
      log: around.generations.log,
    }
    this.#following = new Follower(derived, host, { share, paused })
  }

  get generation(): number {
    return this.#derived.number
  }

  get progress(): Progress {
    return this.#following.progress
  }

  get share(): number | undefined {
    return this.#share
  }

  set share(share: number | undefined) {
    this.#share = share
    this.#following.share = share
  }

  async start(): Promise<void> {
    this.#following.start()
  }

  pause(): Promise<void> {
    return this.#following.pause()
  }

  caughtUp(): Promise<void> {
    return this.#following.caughtUp()
  }

  async level(cut: Cut): Promise<{ isStill: boolean }> {
    await this.#following.catchUp(cut)
    return { isStill: this.#derived.processor.isDrained }
  }

  async pass(ends: readonly number[]): Promise<void> {
    await replay(this.#around.generations.log, this.#derived, { ends, pause: () => undefined })
  }

  async save(isWhole: boolean): Promise<void> {
    if (isWhole) this.#derived.prune(this.#around.keptMs, Number.POSITIVE_INFINITY)
    await this.#derived.checkpoint()
  }

  async snapshot(live: Live): Promise<void> {
    const before = await this.#around.viewLive(live)
    const { program, store } = this.#derived
    this.#sides = { before, after: { app: program.app, version: program.version, store: store.view() } }
  }

  async release(): Promise<void> {
    this.#closeViews()
    this.#derived.store.stopTracking()
    this.#corrections = undefined
  }

  #closeViews(): void {
    this.#sides?.before.store.close()
    this.#sides?.after.store.close()
    this.#sides = undefined
  }

  sumUp(options: SummaryOptions): Promise<DiffSummary> {
    return this.#read(() => this.#sumUp(options))
  }

  async #sumUp(options: SummaryOptions): Promise<DiffSummary> {
    const { before, after } = this.#sides!
    // Whoever is given the lines may never take one.
    const stopped = Promise.withResolvers<never>()
    stopped.promise.catch(() => {})
    let why: Error | undefined = this.#over
    this.#stop = (reason) => {
      why ??= reason
      stopped.reject(reason)
    }
    const summing = new Summing(options)
    const pace = new Pace(this.#around, this.#share ?? this.#around.diffShare)
    pace.begin()
    for (const difference of comparison(before, after)) {
      if (difference !== undefined) {
        const room = summing.add(difference)
        if (room) await Promise.race([room, stopped.promise])
      }
      const rest = pace.rest()
      if (rest === undefined) continue
      await rest
      if (why) throw why
    }
    return summing.end()
  }

  stopSumUp(): void {
    this.#stop(new Error('The comparison was given up.'))
  }

  async correctAhead(live: Live, changed: WrittenKeys | undefined): Promise<number> {
    await this.#following.stop()
    const mine = this.#changed()
    await this.save(false)
    return this.#updateCorrections(live, changed, mine, this.#share ?? this.#around.diffShare)
  }

  /** The keys that were saved here since it was last asked; from then on they are noted. */
  #changed(): WrittenKeys | undefined {
    const { store, program } = this.#derived
    const changed = this.#corrections && store.takeWrittenKeys()
    if (changed === undefined) store.track(comparedCollections(program.app))
    return changed
  }

  async correct(
    live: Live,
    changed: WrittenKeys | undefined,
    promotion: PromotionToCome,
  ): Promise<CorrectionFiles> {
    // Reads come in now and then while requests wait.
    await this.#updateCorrections(live, changed, this.#changed(), 1)
    return writeCorrectionFiles(this.#corrections!, promotion, this.#around.keep)
  }

  /** Compares the keys that have changed in either; all of them, anew, unless both are known. */
  async #updateCorrections(
    live: Live,
    theirs: WrittenKeys | undefined,
    mine: WrittenKeys | undefined,
    share: number,
  ): Promise<number> {
    const keys = theirs && mine && union(theirs, mine)
    if (keys === undefined) this.#corrections = new Corrections()
    await this.snapshot(live)
    try {
      await this.#read(() => this.#readCorrections(keys, share))
    } finally {
      this.#closeViews()
    }
    if (keys === undefined) return Number.POSITIVE_INFINITY
    let count = 0
    for (const each of keys.values()) count += each.size
    return count
  }

  async #readCorrections(keys: WrittenKeys | undefined, share: number): Promise<void> {
    const { before, after } = this.#sides!
    const apps = [await this.#around.hostAppOf(after.version), await this.#around.hostAppOf(before.version)]
    const pace = new Pace(this.#around, share)
    pace.begin()
    const pause = () => {
      const rest = pace.rest()
      if (rest && this.#over) throw this.#over
      return rest
    }
    const requests = (places: readonly Position[]) => this.#requests(apps, places)
    await this.#corrections!.update(before, after, { requests, pause }, keys)
  }

  /** Reads the snapshots. `close` waits for the reading, since a view must not be closed while it is read. */
  #read<T>(act: () => Promise<T>): Promise<T> {
    const reading = act()
    this.#reading = reading.catch(() => {})
    return reading
  }

  end(why: HenceError): void {
    this.#over ??= why
    this.#stop(why)
    this.#following.end(why)
  }

  async close(why: HenceError): Promise<void> {
    this.end(why)
    await this.#following.stop()
    await this.#reading
    await this.release()
    await this.#derived.checkpoint().catch(() => {})
    await this.#derived.close()
  }

  /** Requests of the log, and their partition keys by the first app that gives one. */
  async #requests(
    apps: readonly App[],
    places: readonly Position[],
  ): Promise<ReadonlyMap<string, CorrectedRequest>> {
    const found = new Map<string, CorrectedRequest>()
    const { log } = this.#around.generations
    for (const [partition, here] of Map.groupBy(places, ({ partition }) => partition)) {
      const offsets = here.map(({ offset }) => offset).sort((a, b) => a - b)
      for await (const { offset, bytes } of recordsAt(log, partition, offsets))
        found.set(`${partition}:${offset}`, requestOf(apps, decodeRecord(bytes) as RequestRecord))
    }
    return found
  }
}

function union(a: WrittenKeys, b: WrittenKeys): WrittenKeys {
  const both = new Map<string, ReadonlySet<string>>(a)
  for (const [collection, keys] of b)
    both.set(collection, new Set([...(both.get(collection) ?? []), ...keys]))
  return both
}

function requestOf(apps: readonly App[], record: RequestRecord): CorrectedRequest {
  const { type } = record
  const input = JSON.parse(record.input)
  let key = operatorRequests.get(type)?.key(input as never)
  for (const app of apps) key ??= keyBy(app, record)
  return { type, input, key }
}

/** The partition key of a request by an app; undefined when the app gives none, or throws. */
function keyBy({ requests }: App, { type, version, input, output }: RequestRecord): string | undefined {
  const definition = requests.get(type)
  if (definition === undefined) return undefined
  try {
    const key: unknown = definition.key(upcastToNewest(definition, version, JSON.parse(output ?? input)))
    checkPartitionKey(key, `request "${type}"`)
    return key
  } catch {
    // Then that is why the outcome is another one, and no reason not to correct it.
    return undefined
  }
}
