import { setImmediate } from 'node:timers/promises'
import type { HenceError } from '../failure.ts'
import { Generation } from '../generation/generation.ts'
import { baseOf, lineageOf } from '../log/control-history.ts'
import { recordsBefore } from '../log/partitions.ts'
import type { Candidate, CandidateOptions } from './candidate.ts'
import { CandidateChild, type ChildHost, canDeriveInChild } from './candidate-child.ts'
import { CandidateInProcess, type InProcessHost } from './candidate-in-process.ts'
import type { ReprocessContext } from './context.ts'
import { noCandidate, reprocessFailure } from './errors.ts'
import { type CandidateManifest, writeManifest } from './manifest.ts'
import type { ReprocessStatus } from './reprocessing.ts'

/** The longest slice of work in the engine's process, in milliseconds, which live requests may wait for. */
const sliceMsMax = 2
/**
 * The default share of the time in the engine's process: with it, live work takes at most twice as long. A
 * child process never rests by default: the operating system shares the processors.
 */
const shareInProcess = 0.5
/** In the engine's process the candidate saves smaller checkpoints, because they block live work. */
const checkpointsPerLive = 8

type SlotState =
  | { readonly kind: 'empty' }
  /** The candidate is being opened, or moved to or from the live place. */
  | { readonly kind: 'opening'; readonly manifest: CandidateManifest }
  | { readonly kind: 'open'; readonly manifest: CandidateManifest; readonly candidate: Candidate }
  /** It could not be opened; the live generation is not affected. */
  | { readonly kind: 'failed'; readonly manifest: CandidateManifest; readonly error: HenceError }

/** The place beside the live generation: opens and closes the candidate, and stores which one it is. */
export class CandidateSlot {
  readonly #context: ReprocessContext
  /** The data directory, if a child process can derive in it. */
  readonly #childDirectory: string | undefined
  #state: SlotState = { kind: 'empty' }
  #writing: Promise<void> = Promise.resolve()
  /** Resolves when the process of the last promoted candidate has exited. */
  #gone: Promise<void> = Promise.resolve()

  constructor(context: ReprocessContext) {
    this.#context = context
    this.#childDirectory = canDeriveInChild() ? context.storage.directory : undefined
  }

  get candidate(): Candidate | undefined {
    return this.#state.kind === 'open' ? this.#state.candidate : undefined
  }

  get isOpening(): boolean {
    return this.#state.kind === 'opening'
  }

  /** @throws HenceError `reprocess-none` (change); the error that kept it from being opened */
  required(): Candidate {
    if (this.#state.kind === 'open') return this.#state.candidate
    throw this.#state.kind === 'failed' ? this.#state.error : noCandidate()
  }

  /** Describes the candidate, to be stored; undefined if there is none. */
  get manifest(): CandidateManifest | undefined {
    if (this.#state.kind === 'empty') return undefined
    const { kind, manifest } = this.#state
    if (kind !== 'open') return manifest
    const { version, state } = this.#state.candidate.progress
    return { ...manifest, version, paused: state === 'paused' }
  }

  async setShare(share: number | undefined): Promise<void> {
    const candidate = this.required()
    const { share: _, ...manifest } = this.manifest!
    this.#state = {
      kind: 'open',
      candidate,
      manifest: { ...manifest, ...(share !== undefined && { share }) },
    }
    await candidate.setShare(share ?? this.#shareDefault)
  }

  get diff(): string | undefined {
    return this.manifest?.diff
  }

  set diff(diff: string) {
    const candidate = this.required()
    this.#state = { kind: 'open', candidate, manifest: { ...this.manifest!, diff } }
  }

  get status(): ReprocessStatus | undefined {
    const state = this.#state
    if (state.kind === 'empty') return undefined
    const of = recordsBefore(this.#context.live.processor.positions)
    const { generation, wasLive, diff, version, share = this.#shareDefault } = state.manifest
    if (state.kind !== 'open') {
      const is = { generation, version, wasLive, records: 0, of, failures: 0, share }
      if (state.kind === 'opening') return { ...is, state: 'deriving' }
      const { code, message } = state.error
      return { ...is, state: 'failed', error: { code, message } }
    }
    const { progress } = state.candidate
    const { records, perSecond } = progress
    const left = Math.max(0, of - records)
    return {
      generation,
      wasLive,
      ...progress,
      of: records + left,
      ...(perSecond && { leftMs: Math.round((left / perSecond) * 1_000) }),
      ...(diff !== undefined && { diff }),
    }
  }

  /** Opens a candidate, anew from the beginning, or at its last checkpoint. */
  async open(manifest: CandidateManifest, anew = false): Promise<void> {
    const { history } = this.#context
    const { generation, version, paused, share = this.#shareDefault } = manifest
    const base = baseOf(history, generation) ?? version
    const lineage = lineageOf(history, generation)
    const candidate = await this.#open({ lineage, base, anew, paused, share })
    this.#state = { kind: 'open', candidate, manifest }
  }

  /** Opens a candidate if possible; otherwise `status` says why not. */
  async tryOpen(manifest: CandidateManifest): Promise<void> {
    this.reserve(manifest)
    try {
      await this.open(manifest)
    } catch (error) {
      const what = `Generation ${manifest.generation} could not be opened`
      this.#state = { kind: 'failed', manifest, error: reprocessFailure(error, what) }
    }
  }

  /** Tries again to open a candidate that could not be opened before, with changes to its manifest. */
  async retryOpen(changes: Partial<CandidateManifest> = {}): Promise<void> {
    if (this.#state.kind === 'failed') await this.open({ ...this.#state.manifest, ...changes })
  }

  /** The candidate will be this one, and is not open yet. */
  reserve(manifest: CandidateManifest): void {
    this.#state = { kind: 'opening', manifest }
  }

  /** In a child process if another process can read the data, otherwise in this one. */
  async #open(options: CandidateOptions): Promise<Candidate> {
    const { generations, host, live, storage } = this.#context
    const directory = this.#childDirectory
    const candidateHost = this.#candidateHost(options.lineage[0]!)
    if (directory === undefined) return CandidateInProcess.open(candidateHost, options)
    return CandidateChild.open(candidateHost, {
      ...options,
      directory,
      engine: process.pid,
      checkpointRows: host.checkpointRows,
      checked: generations.checked,
      carried: storage.carried !== undefined,
      derivationMs: live.derivationMs,
    })
  }

  get #shareDefault(): number {
    return this.#childDirectory === undefined ? shareInProcess : 1
  }

  #candidateHost(generation: number): InProcessHost & ChildHost {
    const context = this.#context
    const { generations, storage, host } = context
    return {
      generations,
      liveProgress: (beyond) => context.liveProgress(beyond),
      liveRecords: () => recordsBefore(context.live.processor.positions),
      next: () => host.next(),
      isBusy: () => host.isBusy(),
      sliceMsMax,
      clock: host.clock,
      checkpointRows: Math.ceil(host.checkpointRows / checkpointsPerLive),
      viewLive: async () => {
        const { app, realm, version } = context.live.program
        return { app, realm, version, store: context.live.store.view() }
      },
      keep: (name, text) => storage.keep(name, text),
      rule: (partition, ruling) => context.rule(generation, partition, ruling),
      report: host.report,
      changed: () => void this.save().catch(() => {}),
    }
  }

  /** Closes the candidate, saved, and opens its generation in this process. Reopens it on failure. */
  async takeGeneration(): Promise<Generation> {
    const candidate = this.required()
    const manifest = this.manifest!
    this.reserve(manifest)
    try {
      await candidate.close(noCandidate())
      this.#gone = candidate.gone
      const { generations, codes, history, storage } = this.#context
      storage.states?.checkLater(manifest.generation)
      const program = () => codes.programOf(manifest.version)
      return await Generation.open(generations, lineageOf(history, manifest.generation), program)
    } catch (error) {
      await this.tryOpen(manifest)
      throw error
    }
  }

  /** Lets the candidate continue after a stop. If that fails, its status says why; `resume` tries again. */
  async continue(): Promise<void> {
    const { candidate } = this
    await candidate?.release().catch(() => {})
    if (candidate?.progress.state !== 'failed') await candidate?.start().catch(() => {})
  }

  /** Closes the candidate and deletes its state. */
  async discard(): Promise<void> {
    const { manifest } = this
    if (manifest === undefined) throw noCandidate()
    await this.candidate?.close(noCandidate())
    await this.candidate?.gone
    this.#state = { kind: 'empty' }
    await this.save()
    await this.#context.storage.dropStore(manifest.generation)
  }

  /** Rejects what waits for the candidate, for example a promotion that would wait for hours. */
  end(reason: HenceError): void {
    this.candidate?.end(reason)
  }

  async close(reason: HenceError): Promise<void> {
    await this.candidate?.close(reason)
    await Promise.all([this.candidate?.gone, this.#gone])
    await this.#writing.catch(() => {})
  }

  save(): Promise<void> {
    this.#writing = this.#writing
      .catch(() => {})
      .then(async () => {
        // Stores the state in which the present turn ends.
        await setImmediate()
        const { manifest: candidate } = this
        const { storage, live } = this.#context
        const manifest = { live: live.number, ...(candidate && { candidate }) }
        await writeManifest(storage, manifest)
      })
    return this.#writing
  }
}
