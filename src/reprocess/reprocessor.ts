import type { SubmitOptions } from '../app/service.ts'
import { onAbort, orAborted } from '../clock.ts'
import type { StoredOutcome } from '../derivation/stored-outcome.ts'
import type { DiffSummary, SummaryOptions } from '../diff/diff-summary.ts'
import { changeError, type HenceError } from '../failure.ts'
import type { CodeOf } from '../generation/codes.ts'
import { type Generation, savedCheckpoint } from '../generation/generation.ts'
import { type Identity, identityOf } from '../identity.ts'
import { baseOf } from '../log/control-history.ts'
import type { CorrectionRecord } from '../log/record.ts'
import { align, saveAhead } from './alignment.ts'
import type { Candidate } from './candidate.ts'
import { CandidateSlot } from './candidate-slot.ts'
import {
  type ReprocessContext,
  type ReprocessorHost,
  type ReprocessParts,
  reprocessContext,
} from './context.ts'
import { candidateExists, sameCode, unknownDiff } from './errors.ts'
import type { Manifest } from './manifest.ts'
import { Promoter } from './promotion.ts'
import type { ControlFact, Diff, Promotion, Reprocessing, ReprocessStatus } from './reprocessing.ts'

/** The live generation and the candidate beside it; see `Reprocessing`. */
export class Reprocessor implements Reprocessing {
  readonly #context: ReprocessContext
  readonly #slot: CandidateSlot
  readonly #promoter: Promoter
  /** Changes are made one at a time. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(parts: ReprocessParts, host: ReprocessorHost) {
    this.#context = reprocessContext(parts, host)
    this.#slot = new CandidateSlot(this.#context)
    this.#promoter = new Promoter(this.#context, this.#slot)
  }

  get live(): Generation {
    return this.#context.live
  }

  /** Opens the candidate that an earlier process had. */
  async restore(manifest: Manifest): Promise<void> {
    const { history, generations } = this.#context
    const live = this.live.number
    let { candidate } = manifest
    if (manifest.live !== live && (candidate === undefined || candidate.generation === live)) {
      // That process ended after the record of a promotion, before it wrote the manifest.
      const version =
        baseOf(history, manifest.live) ?? (await savedCheckpoint(generations, manifest.live))?.version
      candidate =
        version === undefined
          ? undefined
          : { generation: manifest.live, version, wasLive: true, paused: false }
    }
    if (candidate !== undefined && candidate.generation !== live) await this.#slot.tryOpen(candidate)
    await this.#slot.save()
  }

  /** Ends and saves the candidate. The engine is closed already, so no change begins any more. */
  async close(reason: HenceError): Promise<void> {
    // The present change may wait for the candidate for hours.
    this.#slot.end(reason)
    await this.#changing.catch(() => {})
    await this.#slot.close(reason)
  }

  async history(): Promise<readonly ControlFact[]> {
    // Leaves out the records that `align` appends, which change nothing.
    return this.#context.history.filter((fact) => fact.type === 'promotion' || fact.before !== fact.version)
  }

  async start(
    code: CodeOf,
    { share, again = false }: { readonly share?: number; readonly again?: boolean } = {},
  ): Promise<ReprocessStatus> {
    if (share !== undefined && !(share > 0 && share <= 1)) {
      throw changeError('option-invalid', `\`share\` must be over 0 and at most 1, not ${share}.`)
    }
    return this.#change(async () => {
      const slot = this.#slot
      const version = await this.#context.codes.add(code)
      const { manifest } = slot
      if (manifest !== undefined && (manifest.version !== version || manifest.wasLive)) {
        throw candidateExists(manifest)
      }
      // If it could not be opened, this may be the code that was missing.
      await slot.retryOpen()
      if (slot.candidate !== undefined) {
        await slot.setShare(share)
        await slot.candidate.start()
      } else {
        if (version === this.live.program.version && !again) throw sameCode(version)
        const used = [this.live.number, ...this.#context.history.map(({ generation }) => generation)]
        const generation = Math.max(...used) + 1
        const options = { wasLive: false, paused: false, ...(share !== undefined && { share }) }
        await slot.open({ generation, version, ...options }, true)
      }
      await slot.save()
      return this.#status()
    })
  }

  async status(): Promise<ReprocessStatus | undefined> {
    return this.#slot.status
  }

  pause(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      await this.#slot.required().pause()
      await this.#slot.save()
      return this.#status()
    })
  }

  resume(): Promise<ReprocessStatus> {
    return this.#change(async () => {
      await this.#slot.retryOpen({ paused: false })
      await this.#slot.required().start()
      await this.#slot.save()
      return this.#status()
    })
  }

  async caughtUp(signal?: AbortSignal): Promise<ReprocessStatus> {
    await this.#caughtUp(signal)
    return this.#status()
  }

  async #caughtUp(signal: AbortSignal | undefined): Promise<void> {
    // Right after a promotion it is still being opened.
    while (this.#slot.isOpening && !this.#context.host.closed()) await this.#changing
    const candidate = this.#slot.required()
    signal?.throwIfAborted()
    await orAborted(candidate.caughtUp(), signal)
    signal?.throwIfAborted()
  }

  async diff(
    options: {
      readonly samples?: number
      readonly each?: (line: string) => unknown
      readonly signal?: AbortSignal
    } = {},
  ): Promise<Diff> {
    const { signal, ...summaryOptions } = options
    for (;;) {
      await this.#caughtUp(signal)
      // It may have been paused or replaced before this change gets its turn.
      const diff = await this.#change(async () => {
        const candidate = this.#slot.required()
        return candidate.progress.state === 'following'
          ? this.#compare(candidate, summaryOptions, signal)
          : undefined
      })
      if (diff !== undefined) return diff
    }
  }

  async #compare(
    candidate: Candidate,
    options: SummaryOptions,
    signal: AbortSignal | undefined,
  ): Promise<Diff> {
    const context = this.#context
    const before = context.liveVersion
    try {
      await saveAhead(context, candidate)
      const positions = await context.host.quiesce(async () => {
        await align(context, candidate)
        await candidate.snapshot(before)
        return [...this.live.processor.positions]
      })
      const summary = await this.#summary(candidate, options, signal)
      this.#slot.diff = summary.sha256
      const { generation, version } = this.#slot.manifest!
      return { ...summary, before, after: { generation, version }, positions }
    } finally {
      // Only now, because live work should share its time with either deriving or comparing.
      await this.#slot.continue()
      await this.#slot.save()
    }
  }

  async #summary(
    candidate: Candidate,
    options: SummaryOptions,
    signal: AbortSignal | undefined,
  ): Promise<DiffSummary> {
    signal?.throwIfAborted()
    const forget = onAbort(signal, () => candidate.stopComparing())
    try {
      return await candidate.compare(options)
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      forget()
    }
  }

  async promote(
    { diff, note }: { readonly diff: string; readonly note?: string },
    { requestId, principal = '' }: SubmitOptions,
  ): Promise<Promotion> {
    const identity = identityOf(requestId, principal)
    const approval = { diff, note, requestId, principal, identity }
    return this.#change(async () => {
      const earlier = await this.#promoter.earlier(approval)
      if (earlier !== undefined) return earlier
      this.#slot.required()
      if (diff !== this.#slot.diff) throw unknownDiff(diff, this.#slot.diff)
      return this.#promoter.promote(approval)
    })
  }

  discard(): Promise<void> {
    return this.#change(() => this.#slot.discard())
  }

  finishCorrections(): Promise<void> {
    return this.#promoter.finishCorrections()
  }

  received(identity: Identity, stored: StoredOutcome | undefined): StoredOutcome | undefined {
    return this.#promoter.received(identity, stored)
  }

  missingCorrections(partition: number): CorrectionRecord[] {
    return this.#promoter.missingCorrections(partition)
  }

  #status(): ReprocessStatus {
    this.#slot.required()
    return this.#slot.status!
  }

  #change<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#changing
      .catch(() => {})
      .then(() => {
        // Another process may have the directory by now.
        const closed = this.#context.host.closed()
        if (closed) throw closed
        return act()
      })
    this.#changing = result.catch(() => {})
    return result
  }
}
