import { setImmediate } from 'node:timers/promises'
import type { App } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import { orAborted } from '../clock.ts'
import { comparedCollections } from '../diff/diff.ts'
import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import { HenceError } from '../failure.ts'
import type { CodeOf, Codes } from '../generation/codes.ts'
import { Generation, type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { identityOf } from '../identity.ts'
import { baseOf, lineageOf } from '../log/control-history.ts'
import { appendControl } from '../log/controls.ts'
import type { Log } from '../log/log.ts'
import { partitionOf, recordsBefore } from '../log/partitions.ts'
import { type CorrectionRecord, encodeCorrection, type RecordedCorrection } from '../log/record.ts'
import { replay } from '../processor/replay.ts'
import type { Storage } from '../storage/storage.ts'
import type { Candidate, CandidateOptions, Live } from './candidate.ts'
import { CandidateChild, canDeriveInChild } from './candidate-child.ts'
import { CandidateInProcess, type Surroundings } from './candidate-in-process.ts'
import { keptCounts, type Promoted, readCorrectionFiles } from './correction-files.ts'
import { approvalReused, noneBeside, oneExists, sameCode, unknownDiff } from './errors.ts'
import { type Cut, reprocessFailure } from './follower.ts'
import { type CandidateManifest, type Manifest, manifestName } from './manifest.ts'
import type { ControlFact, Diff, Promotion, Reprocessing, ReprocessStatus } from './reprocessing.ts'

/** What the generations need of the engine around them. */
export interface ReprocessorHost {
  readonly checkpointRows: number
  /** Resolves when the live generation has applied another record. */
  next(): Promise<void>
  isBusy(): boolean
  /** The least log time that a record to come may have. */
  frontier(): number
  /** Lets nothing in and finishes what is under way, then acts. */
  still<T>(act: () => Promise<T>): Promise<T>
  /** Ends the tries of effects that are under way. */
  stopDelivery(): Promise<void>
  /** Begins to deliver what the live generation asks for. */
  startDelivery(): void
  /** Another generation is live, and this is its app. */
  switched(app: App): void
  /** Brings a correction to the log. */
  write(partition: number, record: CorrectionRecord, bytes: Buffer): void
  /** Resolves when all that was written is applied. */
  idle(): Promise<void>
  /** For how long outcomes and traces are kept at least, in milliseconds of log time. */
  readonly keptMs: number
  halt(error: unknown): void
  /** Why nothing more is done; undefined while it is. */
  closed(): HenceError | undefined
}

/** A live request may have to wait for so long for what is derived in this process. */
const sliceMsMax = 2
/** How much of the time between live work a diff takes in this process, if nobody has said how much deriving may. */
const diffShare = 0.5
/** What is derived in this process is saved in smaller portions than the live one: while one goes out, nothing else is done. */
const portions = 8

/** The generation that is live, and the one beside it; see `Reprocessing`. */
export class Reprocessor implements Reprocessing {
  readonly #log: Log
  readonly #storage: Storage
  readonly #codes: Codes
  readonly #generationHost: GenerationHost
  readonly #host: ReprocessorHost
  #live: Generation
  #other: Candidate | undefined
  /** One that could not be opened, and why: the live one goes on without it. */
  #unopened: { readonly other: CandidateManifest; readonly error: HenceError } | undefined
  /** One that is being opened. */
  #coming: CandidateManifest | undefined
  /** The hash of the last diff of the other one. */
  #diff: string | undefined
  /** Those of a promotion that are on their way to the log. */
  #corrections: readonly RecordedCorrection[] = []
  #noting: Promise<void> = Promise.resolve()
  /** One change at a time. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(
    given: {
      readonly log: Log
      readonly storage: Storage
      readonly codes: Codes
      readonly generationHost: GenerationHost
      readonly live: Generation
    },
    host: ReprocessorHost,
  ) {
    this.#log = given.log
    this.#storage = given.storage
    this.#codes = given.codes
    this.#generationHost = given.generationHost
    this.#live = given.live
    this.#host = host
  }

  get live(): Generation {
    return this.#live
  }

  /** Takes up the other generation where it was when the last process ended. */
  async restore(note: Manifest): Promise<void> {
    const live = this.#live.number
    let { other } = note
    if (note.live !== live && (other === undefined || other.generation === live)) {
      // The process ended between the record of a promotion and its note.
      const version =
        baseOf(this.#history, note.live) ?? (await savedCheckpoint(this.#generationHost, note.live))?.version
      other =
        version === undefined ? undefined : { generation: note.live, version, wasLive: true, paused: false }
    }
    if (other !== undefined && other.generation !== live) {
      await this.#reopen(other)
    }
    await this.#keepNote()
  }

  async #openOther(noted: CandidateManifest, anew = false): Promise<void> {
    const { generation, version, wasLive, paused, share } = noted
    const base = baseOf(this.#history, generation) ?? version
    const lineage = lineageOf(this.#history, generation)
    this.#other = await this.#opened({ lineage, base, anew, wasLive, paused, share })
    this.#unopened = undefined
    this.#diff = noted.diff
  }

  /** Opens one in a process of its own, if another process can read what there is. */
  async #opened(options: CandidateOptions): Promise<Candidate> {
    const { directory } = this.#storage
    const { checkpointRows, keptMs } = this.#host
    const { checked } = this.#generationHost
    if (directory !== undefined && this.#codes.isSandboxed && canDeriveInChild()) {
      const side = {
        cut: (than?: readonly number[]) => this.#cut(than),
        changed: () => void this.#keepNote().catch(() => {}),
      }
      return CandidateChild.open(side, {
        ...options,
        directory,
        engine: process.pid,
        checkpointRows,
        keptMs,
        checked,
      })
    }
    return CandidateInProcess.open(this.#surroundings(), options)
  }

  /** To be called when the engine is closed already: then no change begins any more. */
  async close(why: HenceError): Promise<void> {
    // A promotion may wait for what would take hours.
    this.#other?.end(why)
    await this.#changing.catch(() => {})
    await this.#other?.close(why)
    await this.#noting.catch(() => {})
  }

  async history(): Promise<readonly ControlFact[]> {
    // A diff changes nothing, though it may have left a mark.
    return this.#history.filter((fact) => fact.type === 'promotion' || fact.before !== fact.version)
  }

  get #history(): readonly ControlFact[] {
    return this.#live.processor.history
  }

  async start(
    code: CodeOf,
    { share, again = false }: { readonly share?: number; readonly again?: boolean } = {},
  ): Promise<ReprocessStatus> {
    if (share !== undefined && !(share > 0 && share <= 1)) {
      throw new HenceError(
        'option-invalid',
        'change',
        `\`share\` must be over 0 and at most 1, not ${share}.`,
      )
    }
    return this.#change(async () => {
      const version = await this.#codes.add(code)
      const noted = this.#noted()
      if (noted !== undefined && (noted.version !== version || noted.wasLive)) throw oneExists(noted)
      // Perhaps it was this code that was missing.
      if (this.#unopened !== undefined) await this.#openOther(this.#unopened.other)
      if (this.#other !== undefined) {
        this.#other.share = share
        await this.#other.start()
      } else {
        if (version === this.#live.program.version && !again) throw sameCode(version)
        const used = [this.#live.number, ...this.#history.map(({ generation }) => generation)]
        const generation = Math.max(...used) + 1
        await this.#openOther(
          { generation, version, wasLive: false, paused: false, ...(share !== undefined && { share }) },
          true,
        )
      }
      await this.#keepNote()
      return this.#status()
    })
  }

  async status(): Promise<ReprocessStatus | undefined> {
    return this.#statusOrNone()
  }

  #statusOrNone(): ReprocessStatus | undefined {
    const of = recordsBefore(this.#live.processor.positions)
    const unopened = this.#unopened?.other ?? this.#coming
    if (unopened !== undefined) {
      const { generation, version, wasLive, share = diffShare } = unopened
      const is = { generation, version, wasLive, records: 0, of, failures: 0, share }
      if (this.#unopened === undefined) return { ...is, state: 'deriving' }
      const { code, message } = this.#unopened.error
      return { ...is, state: 'failed', error: { code, message } }
    }
    if (this.#other === undefined) return undefined
    const { generation, wasLive, progress } = this.#other
    const { records, perSecond } = progress
    const left = Math.max(0, of - records)
    return {
      generation,
      wasLive,
      ...progress,
      of: records + left,
      ...(perSecond && { leftMs: Math.round((left / perSecond) * 1_000) }),
      ...(this.#diff !== undefined && { diff: this.#diff }),
    }
  }

  pause(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      await this.#needed().pause()
      await this.#keepNote()
      return this.#status()
    })
  }

  resume(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      if (this.#unopened !== undefined) await this.#openOther({ ...this.#unopened.other, paused: false })
      await this.#needed().start()
      await this.#keepNote()
      return this.#status()
    })
  }

  async caughtUp(signal?: AbortSignal): Promise<ReprocessStatus> {
    await this.#reached(signal)
    return this.#status()
  }

  async diff(
    options: {
      readonly samples?: number
      readonly each?: (line: string) => unknown
      readonly signal?: AbortSignal
    } = {},
  ): Promise<Diff> {
    const { signal, ...how } = options
    for (;;) {
      await this.#reached(signal)
      // Meanwhile it may have been paused, or be another one.
      const made = await this.#change(async () =>
        this.#needed().progress.state === 'following' ? this.#compare(how, signal) : undefined,
      )
      if (made !== undefined) return made
    }
  }

  async #compare(how: SummaryOptions, signal: AbortSignal | undefined): Promise<Diff> {
    const other = this.#needed()
    const live = this.#asLive()
    try {
      await this.#saveAhead(other)
      const positions = await this.#host.still(async () => {
        await this.#level(other)
        await other.snapshot(live)
        return [...this.#live.processor.positions]
      })
      const summary = await this.#sumUp(other, how, signal)
      this.#diff = summary.sha256
      const { version } = other.progress
      return { ...summary, before: live, after: { generation: other.generation, version }, positions }
    } finally {
      // Not before: live work is to share the time with one of them only.
      await this.#goOn()
      await this.#keepNote()
    }
  }

  async #sumUp(other: Candidate, how: SummaryOptions, signal: AbortSignal | undefined): Promise<DiffSummary> {
    // It may have come while this waited for its turn, and comes once only.
    signal?.throwIfAborted()
    const stop = () => other.stopSumUp()
    signal?.addEventListener('abort', stop)
    try {
      return await other.sumUp(how)
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  /** Lets the other one go on after it stood still; if that has failed, its status says why, and `resume` tries again. */
  async #goOn(): Promise<void> {
    await this.#other?.release().catch(() => {})
    if (this.#other?.progress.state !== 'failed') await this.#other?.start().catch(() => {})
  }

  async promote(
    { diff, note }: { readonly diff: string; readonly note?: string },
    { requestId, principal = '' }: SubmitOptions,
  ): Promise<Promotion> {
    const identity = identityOf(requestId, principal)
    return this.#change(async () => {
      const before = this.#history.find(
        (fact) => fact.type === 'promotion' && fact.requestId === requestId && fact.principal === principal,
      )
      if (before !== undefined) return this.#promotedBefore(before as Promoted, diff)
      const other = this.#needed()
      if (diff !== this.#diff) throw unknownDiff(diff, this.#diff)
      const live = this.#live
      await other.caughtUp()
      try {
        await this.#correctAhead(other)
        const app = await this.#codes.hostAppOf(other.progress.version)
        return await this.#host.still(() => this.#promote(other, app, { diff, note, identity }))
      } finally {
        live.store.stopTracking()
        this.#host.startDelivery()
        if (this.#live !== live) await this.#keepBeside(live)
        await this.#goOn()
      }
    })
  }

  discard(): Promise<void> {
    return this.#change(async () => {
      const noted = this.#noted()
      if (noted === undefined) throw noneBeside()
      await this.#other?.close(noneBeside())
      this.#other = undefined
      this.#unopened = undefined
      this.#diff = undefined
      await this.#keepNote()
      await this.#storage.dropStore(noted.generation)
    })
  }

  /** Writes what a process that ended during a promotion had no time to write. Nothing else may be written meanwhile. */
  async finishCorrections(): Promise<void> {
    const last = this.#history.findLast((fact) => fact.type === 'promotion') as Promoted | undefined
    if (last === undefined || last.corrections === 0) return
    const { processor } = this.#live
    if (processor.corrections.count === last.corrections) return
    await this.#write(last)
  }

  /** Corrections that the log of a partition may lack: what was written of them has perhaps not arrived. */
  waitingFor(partition: number): CorrectionRecord[] {
    const done = this.#live.processor.corrections.last(partition)
    const generation = this.#live.number
    return this.#corrections
      .filter(({ key, n }) => n > done && partitionOf(key, this.#log.partitions) === partition)
      .map((correction) => ({ kind: 'correction', generation, correction }))
  }

  async #promote(
    other: Candidate,
    app: App,
    approval: { readonly diff: string; readonly note: string | undefined; readonly identity: string },
  ): Promise<Promotion> {
    await this.#level(other)
    const before = this.#live
    const number = this.#history.length
    const { identity, diff, note } = approval
    const { version } = other.progress
    const promotion = { number, identity, offset: before.processor.position(0) }
    const { count, hash, counts, effectsNew } = await other.correct(
      this.#asLive(),
      this.#live.store.takeWrittenKeys(),
      promotion,
    )
    const noted = this.#noted()!
    const after = await this.#taken(other, noted)
    const base = baseOf(this.#history, after.number) ?? version
    const control = {
      type: 'promotion' as const,
      number,
      base,
      version,
      before: before.number,
      identity,
      diff,
      ...(note !== undefined && { note }),
      corrections: count,
      correctionsHash: hash,
    }
    try {
      await this.#record({ generation: after.number, control })
    } catch (error) {
      await after.close()
      await this.#reopen(noted)
      throw error
    }
    // The other one passes it when it is live no more: until then its position is that of the rows that are read.
    await this.#pass(after)
    // From here to the next turn of the event loop nobody reads.
    this.#live = after
    const { number: generation, program } = before
    this.#coming = {
      generation,
      version: program.version,
      wasLive: true,
      paused: false,
      ...(noted.share !== undefined && { share: noted.share }),
    }
    this.#diff = undefined
    this.#host.switched(app)
    if (count > 0) await this.#write(this.#history[number] as Promoted)
    return {
      generation: after.number,
      version,
      before: before.number,
      corrections: counts,
      effectsNew,
      replayed: false,
    }
  }

  /**
   * Works out the corrections while requests go on, first of everything and then of what changed meanwhile, until that is little:
   * requests wait for the last of it only.
   */
  async #correctAhead(other: Candidate): Promise<void> {
    this.#live.store.track(comparedCollections(this.#live.program.app))
    await this.#live.checkpoint()
    await other.correctAhead(this.#asLive(), undefined)
    for (let [before, count] = [Number.POSITIVE_INFINITY, 0]; ; before = count) {
      await other.start()
      await other.caughtUp()
      const changed = this.#live.store.takeWrittenKeys()
      await this.#live.checkpoint()
      count = await other.correctAhead(this.#asLive(), changed)
      // It gets no less when requests come faster than that.
      if (count <= changedFew || count >= before / 2) break
    }
    // It takes a while to end the tries that are under way.
    await this.#host.stopDelivery()
    await other.start()
    await other.caughtUp()
    await this.#saveAhead(other)
  }

  #asLive(): Live {
    return { generation: this.#live.number, version: this.#live.program.version }
  }

  /** Takes over the other one, which was saved whole, from where it was derived. */
  async #taken(other: Candidate, noted: CandidateManifest): Promise<Generation> {
    this.#other = undefined
    this.#coming = noted
    try {
      await other.close(noneBeside())
      const program = () => this.#codes.programOf(noted.version)
      const lineage = lineageOf(this.#history, other.generation)
      return await Generation.open(this.#generationHost, lineage, program)
    } catch (error) {
      await this.#reopen(noted)
      throw error
    }
  }

  /** Keeps the one that was live until now for the way back. */
  async #keepBeside(before: Generation): Promise<void> {
    await before.close()
    if (this.#host.closed()) return
    await this.#reopen(this.#coming!)
    await this.#keepNote()
  }

  /** Opens one if that is possible: the live one goes on without it. */
  async #reopen(other: CandidateManifest): Promise<void> {
    this.#coming = other
    try {
      await this.#openOther(other)
    } catch (error) {
      const what = `Generation ${other.generation} could not be opened`
      this.#unopened = { other, error: reprocessFailure(error, what) }
    }
    this.#coming = undefined
  }

  /** Brings those corrections to the log that it lacks, each partition's in their order. */
  async #write(promoted: Promoted): Promise<void> {
    const generation = this.#live.number
    for await (const portion of readCorrectionFiles((name) => this.#storage.kept(name), promoted)) {
      this.#corrections = portion
      for (const correction of portion) {
        const partition = partitionOf(correction.key, this.#log.partitions)
        if (correction.n <= this.#live.processor.corrections.last(partition)) continue
        const record: CorrectionRecord = { kind: 'correction', generation, correction }
        this.#host.write(partition, record, encodeCorrection(record))
      }
      await this.#host.idle()
    }
    this.#corrections = []
  }

  async #promotedBefore(fact: Promoted, diff: string): Promise<Promotion> {
    if (fact.diff !== diff) throw approvalReused(fact)
    const { generation, version, before } = fact
    const { counts, effectsNew } = await keptCounts((name) => this.#storage.kept(name), fact)
    return { generation, version, before, corrections: counts, effectsNew, replayed: true }
  }

  /** Saves both while requests go on, so that little is left to save while they wait. */
  async #saveAhead(other: Candidate): Promise<void> {
    await this.#live.checkpoint()
    await other.save(false)
  }

  /** Writes a control record into all partitions. */
  async #record(record: Parameters<typeof appendControl>[1]): Promise<void> {
    try {
      await appendControl(this.#log, record, [...this.#live.processor.positions.keys()])
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'retry') this.#host.halt(error)
      throw error
    }
  }

  /** Has the generation that is live behind a control record pass it: nothing goes on otherwise. */
  async #pass(generation: Generation): Promise<void> {
    try {
      await replay(this.#log, generation, { pause: () => undefined })
    } catch (error) {
      this.#host.halt(error)
      throw error
    }
  }

  /** Brings the other generation to where the live one stands still, with what both keep, and saves both. */
  async #level(other: Candidate): Promise<void> {
    const { isStill } = await other.level(await this.#cut())
    if (!isStill) {
      // Records of the same millisecond may still come, and its last messages belong behind them. To have them applied here
      // all the same, this place must be one in the log: a record that the code in force stays in force.
      const { number: generation, program } = this.#live
      const { version } = program
      const number = this.#history.length
      await this.#record({ generation, control: { type: 'version', number, version, before: version } })
      await this.#pass(this.#live)
      await other.pass(this.#live.processor.positions)
    }
    this.#live.prune(this.#host.keptMs, Number.POSITIVE_INFINITY)
    await this.#live.checkpoint()
    await other.save(true)
  }

  /** What one needs that is derived in this process. */
  #surroundings(): Surroundings {
    const host = this.#host
    return {
      generations: this.#generationHost,
      hostAppOf: (version) => this.#codes.hostAppOf(version),
      cut: (than) => this.#cut(than),
      applied: () => recordsBefore(this.#live.processor.positions),
      next: () => host.next(),
      isBusy: () => host.isBusy(),
      sliceMsMax,
      checkpointRows: Math.ceil(host.checkpointRows / portions),
      keptMs: host.keptMs,
      diffShare,
      viewLive: async () => {
        const { app, version } = this.#live.program
        return { app, version, store: this.#live.store.view() }
      },
      keep: (name, text) => this.#storage.keep(name, text),
      changed: () => void this.#keepNote().catch(() => {}),
    }
  }

  /** How far the live generation is; once it is further than some positions, if they are given. */
  async #cut(than?: readonly number[]): Promise<Cut> {
    const isFurther = (position: number, partition: number) => position > than![partition]!
    while (than !== undefined && !this.#live.processor.positions.some(isFurther)) await this.#host.next()
    const { processor } = this.#live
    const { positions } = processor
    return {
      positions: [...positions],
      frontier: this.#host.frontier(),
      waiting: positions.map((_, target) => processor.waitingFor(target)),
    }
  }

  /** Resolves when the other one has reached the live one; rejects when it failed, or the signal aborts. */
  async #reached(signal: AbortSignal | undefined): Promise<void> {
    // After a promotion it has to be opened first.
    while (this.#coming !== undefined && !this.#host.closed()) await this.#changing
    const other = this.#needed()
    signal?.throwIfAborted()
    await orAborted(other.caughtUp(), signal)
    signal?.throwIfAborted()
  }

  #needed(): Candidate {
    if (this.#other !== undefined) return this.#other
    throw this.#unopened?.error ?? noneBeside()
  }

  /** What is to be kept of the other one. */
  #noted(): CandidateManifest | undefined {
    const other = this.#other
    if (other === undefined) return this.#unopened?.other ?? this.#coming
    const { generation, wasLive, share, progress } = other
    return {
      generation,
      version: progress.version,
      wasLive,
      paused: progress.state === 'paused',
      ...(share !== undefined && { share }),
      ...(this.#diff !== undefined && { diff: this.#diff }),
    }
  }

  #status(): ReprocessStatus {
    this.#needed()
    return this.#statusOrNone()!
  }

  #change<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#changing
      .catch(() => {})
      .then(() => {
        // Its directory may be another process's by now.
        const closed = this.#host.closed()
        if (closed) throw closed
        return act()
      })
    this.#changing = result.catch(() => {})
    return result
  }

  #keepNote(): Promise<void> {
    this.#noting = this.#noting
      .catch(() => {})
      .then(async () => {
        await setImmediate()
        const other = this.#noted()
        const note: Manifest = { live: this.#live.number, ...(other && { other }) }
        await this.#storage.keep(manifestName, JSON.stringify(note))
      })
    return this.#noting
  }
}

/** So many keys may have changed when requests are made to wait for a promotion; comparing them takes milliseconds. */
const changedFew = 5_000
