import { comparedCollections, comparison } from '../diff/diff.ts'
import { type DiffSummary, Summariser, type SummaryOptions } from '../diff/diff-summary.ts'
import type { HenceError } from '../failure.ts'
import { Generation, type GenerationHost } from '../generation/generation.ts'
import type { Position } from '../log/log.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import type { Program } from '../sandbox/program.ts'
import type { StoreView } from '../state/store.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import type { Alignment, Candidate, CandidateOptions, StoredCorrections } from './candidate.ts'
import { CorrectedRequests } from './corrected-requests.ts'
import { CorrectionFiles } from './correction-files.ts'
import { CorrectionSet } from './corrections.ts'
import { type CandidateProgress, Follower, type FollowerHost, type LiveProgress } from './follower.ts'
import { Pace } from './pace.ts'
import type { GenerationVersion } from './reprocessing.ts'

export interface InProcessHost extends Omit<FollowerHost, 'log'> {
  readonly generations: GenerationHost
  viewLive(live: GenerationVersion): Promise<SavedGeneration>
  keep(name: string, text: string): Promise<void>
}

export interface SavedGeneration extends Pick<Program, 'app' | 'realm' | 'version'> {
  readonly store: StoreView
}

export class CandidateInProcess implements Candidate {
  readonly #host: InProcessHost
  readonly #generation: Generation
  readonly #follower: Follower
  #snapshots: { readonly before: SavedGeneration; readonly after: SavedGeneration } | undefined
  /** Settles when nobody reads the snapshots any more. */
  #reading: Promise<unknown> = Promise.resolve()
  #ended: HenceError | undefined
  /** Makes a comparison reject, even while it waits for its reader. */
  #stop: (reason: Error) => void = () => {}
  /** The corrections of a promotion that has begun. */
  #corrections: CorrectionSet | undefined
  #files: CorrectionFiles | undefined
  #requests: CorrectedRequests | undefined

  static async open(host: InProcessHost, options: CandidateOptions): Promise<CandidateInProcess> {
    const { lineage, base, anew } = options
    const program = () => host.generations.programOf(base)
    const generation = await Generation.open(host.generations, lineage, program, anew)
    const candidate = new CandidateInProcess(host, generation, options)
    if (!options.paused) await candidate.start()
    return candidate
  }

  private constructor(host: InProcessHost, generation: Generation, { share, paused }: CandidateOptions) {
    this.#host = host
    this.#generation = generation
    this.#follower = new Follower(generation, { ...host, log: host.generations.log }, { share, paused })
  }

  readonly gone = Promise.resolve()

  get progress(): CandidateProgress {
    return this.#follower.progress
  }

  async setShare(share: number): Promise<void> {
    this.#follower.share = share
  }

  async start(): Promise<void> {
    this.#follower.start()
  }

  pause(): Promise<void> {
    return this.#follower.pause()
  }

  caughtUp(): Promise<void> {
    return this.#follower.caughtUp()
  }

  async align(to: LiveProgress): Promise<Alignment> {
    await this.#follower.align(to)
    const { positions, isDrained } = this.#generation.processor
    return { positions: [...positions], isDrained }
  }

  async save(prune: boolean): Promise<void> {
    await this.#generation.checkpoint(prune ? Number.POSITIVE_INFINITY : 0)
  }

  async snapshot(live: GenerationVersion): Promise<void> {
    const before = await this.#host.viewLive(live)
    const { program, store } = this.#generation
    const { app, realm, version } = program
    this.#snapshots = { before, after: { app, realm, version, store: store.view() } }
  }

  async release(): Promise<void> {
    this.#releaseSnapshots()
    this.#generation.store.stopTracking()
    this.#corrections = this.#files = this.#requests = undefined
  }

  #releaseSnapshots(): void {
    this.#snapshots?.before.store.close()
    this.#snapshots?.after.store.close()
    this.#snapshots = undefined
  }

  compare(options: SummaryOptions): Promise<DiffSummary> {
    return this.#read(() => this.#compare(options))
  }

  async #compare(options: SummaryOptions): Promise<DiffSummary> {
    const { before, after } = this.#snapshots!
    // The reader of the lines may never take another one.
    const stopped = Promise.withResolvers<never>()
    stopped.promise.catch(() => {})
    let reason: Error | undefined = this.#ended
    this.#stop = (given) => {
      reason ??= given
      stopped.reject(given)
    }
    const summariser = new Summariser(options)
    const pace = new Pace(this.#host, this.progress.share)
    pace.begin()
    for (const difference of comparison(before, after)) {
      if (difference !== undefined) {
        const room = summariser.add(difference)
        if (room) await Promise.race([room, stopped.promise])
      }
      const rest = pace.rest()
      if (rest === undefined) continue
      await rest
      if (reason) throw reason
    }
    return summariser.end()
  }

  stopComparing(): void {
    this.#stop(new Error('The comparison was stopped.'))
  }

  async correctAhead(live: GenerationVersion, changed: WrittenKeys | undefined): Promise<number> {
    await this.#follower.stop()
    const own = this.#takeWrittenKeys()
    await this.save(false)
    return this.#updateCorrections(live, changed, own, this.progress.share)
  }

  /** The keys that this generation has saved since the last call; undefined at the first call. */
  #takeWrittenKeys(): WrittenKeys | undefined {
    const { store, program } = this.#generation
    const written = store.takeWrittenKeys(comparedCollections(program.app))
    return this.#corrections && written
  }

  async writeCorrections(number: number): Promise<void> {
    await this.#filesFor(number).write()
  }

  async correct(
    live: GenerationVersion,
    changed: WrittenKeys | undefined,
    number: number,
  ): Promise<StoredCorrections> {
    // Requests wait, so it works all the time but for reads in between.
    await this.#updateCorrections(live, changed, this.#takeWrittenKeys(), 1)
    return this.#filesFor(number).finish(number)
  }

  #filesFor(number: number): CorrectionFiles {
    this.#files ??= new CorrectionFiles(this.#corrections!, number, this.#host.keep)
    return this.#files
  }

  /** Compares the keys that have changed, or everything; returns how many had, infinity for everything. */
  async #updateCorrections(
    live: GenerationVersion,
    changedLive: WrittenKeys | undefined,
    changedHere: WrittenKeys | undefined,
    share: number,
  ): Promise<number> {
    const keys = changedLive && changedHere && union(changedLive, changedHere)
    if (keys === undefined) {
      this.#corrections = new CorrectionSet()
      this.#files = undefined
    }
    await this.snapshot(live)
    try {
      await this.#read(() => this.#correctSnapshots(keys, share))
    } finally {
      this.#releaseSnapshots()
    }
    if (keys === undefined) return Number.POSITIVE_INFINITY
    let count = 0
    for (const each of keys.values()) count += each.size
    return count
  }

  async #correctSnapshots(keys: WrittenKeys | undefined, share: number): Promise<void> {
    const { before, after } = this.#snapshots!
    const pace = new Pace(this.#host, share)
    pace.begin()
    const pause = () => {
      const rest = pace.rest()
      if (rest && this.#ended) throw this.#ended
      return rest
    }
    const { log, programOf } = this.#host.generations
    const load = () => Promise.all([after.version, before.version].map(programOf))
    this.#requests ??= new CorrectedRequests(log, load, this.#generation.derivationMs)
    const requests = (positions: readonly Position[]) => this.#requests!.read(positions)
    // The live generation may be some records ahead.
    const forgottenBefore = Math.max(...[before, after].map(({ store }) => lowestWatermark(store)))
    await this.#corrections!.update(before, after, { requests, pause, forgottenBefore }, keys)
  }

  /** Reads the snapshots. `close` waits for it, because a view must not be closed while it is read. */
  #read<T>(act: () => Promise<T>): Promise<T> {
    const reading = act()
    this.#reading = reading.catch(() => {})
    return reading
  }

  end(reason: HenceError): void {
    this.#ended ??= reason
    this.#stop(reason)
    this.#follower.end(reason)
  }

  async close(reason: HenceError): Promise<void> {
    this.end(reason)
    await this.#follower.stop()
    await this.#reading
    await this.release()
    await this.#generation.checkpoint().catch(() => {})
    await this.#generation.close()
  }
}

/** All partitions had forgotten ids that are older when a generation was saved. */
function lowestWatermark(store: StoreView): number {
  const text = store.get('meta', 'checkpoint')
  if (text === undefined) return 0
  return Math.min(...(JSON.parse(text) as Checkpoint).watermarks.map(({ before }) => before))
}

function union(a: WrittenKeys, b: WrittenKeys): WrittenKeys {
  const both = new Map<string, ReadonlySet<string>>(a)
  for (const [collection, keys] of b)
    both.set(collection, new Set([...(both.get(collection) ?? []), ...keys]))
  return both
}
