import { assert } from '../assert.ts'
import { type StoredOutcome, withReceived } from '../derivation/stored-outcome.ts'
import { comparedCollections } from '../diff/diff.ts'
import type { Generation } from '../generation/generation.ts'
import type { Identity } from '../identity.ts'
import { baseOf } from '../log/control-history.ts'
import { partitionOf } from '../log/partitions.ts'
import { type CorrectionRecord, encodeCorrection, type RecordedCorrection } from '../log/record.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import { align, appendToAll, passControl } from './alignment.ts'
import type { Candidate } from './candidate.ts'
import type { CandidateSlot } from './candidate-slot.ts'
import type { ReprocessContext } from './context.ts'
import { type PromotionFact, readCorrectionCounts, readCorrectionFiles } from './correction-files.ts'
import { approvalReused } from './errors.ts'
import type { Promotion } from './reprocessing.ts'

/** Requests wait for a promotion once at most this many keys change between comparisons: milliseconds. */
const changedKeysMax = 5_000

/** So many corrections are written at once while requests go on: they wait for milliseconds. */
const besideAtOnce = 256

interface Approval {
  readonly diff: string
  readonly note: string | undefined
  readonly requestId: string
  readonly principal: string
  readonly identity: string
}

/** Makes the candidate the live generation, and brings the corrections of promotions to the log. */
export class Promoter {
  readonly #context: ReprocessContext
  readonly #slot: CandidateSlot
  /** The corrections that are being written to the log. */
  #writing: readonly RecordedCorrection[] = []
  /** The generation that was live before, while requests go on and the log lacks some corrections. */
  #before: Generation | undefined

  constructor(context: ReprocessContext, slot: CandidateSlot) {
    this.#context = context
    this.#slot = slot
  }

  /** The result of a promotion that was done before under the same request id. */
  async earlier({ requestId, principal, diff }: Approval): Promise<Promotion | undefined> {
    const fact = this.#context.history.find(
      (each): each is PromotionFact =>
        each.type === 'promotion' && each.requestId === requestId && each.principal === principal,
    )
    if (fact === undefined) return undefined
    if (fact.diff !== diff) throw approvalReused(fact)
    const { generation, version, before } = fact
    const { counts, effectsNew } = await readCorrectionCounts(this.#kept, fact)
    return { generation, version, before, corrections: counts, effectsNew, replayed: true }
  }

  async promote(approval: Approval): Promise<Promotion> {
    const { live, host } = this.#context
    const candidate = this.#slot.required()
    await candidate.caughtUp()
    try {
      await this.#correctAhead(candidate)
      const { promotion, rest } = await host.quiesce(() => this.#switch(candidate, approval))
      await this.#writeBeside(rest)
      return promotion
    } finally {
      this.#before = undefined
      live.store.stopTracking()
      host.startDelivery()
      if (this.#context.live !== live) {
        await live.close()
        // From now on it is the candidate, which follows the log so that a rollback is possible.
        const { manifest } = this.#slot
        if (!host.closed()) {
          await this.#slot.tryOpen(manifest!)
          await this.#slot.save()
        }
      }
      await this.#slot.continue()
    }
  }

  /**
   * Works out the corrections while requests go on: first of everything, then again and again of the keys
   * that have changed meanwhile, until those are few. Requests wait only for the last of them.
   */
  async #correctAhead(candidate: Candidate): Promise<void> {
    const context = this.#context
    const { live } = context
    takeWrittenKeys(live)
    await live.checkpoint()
    await candidate.correctAhead(context.liveVersion, undefined)
    for (let [before, count] = [Number.POSITIVE_INFINITY, 0]; ; before = count) {
      count = await this.#correctChanged(candidate)
      // If the number hardly falls, requests come too fast for it to fall further.
      if (count <= changedKeysMax || count >= before / 2) break
    }
    await candidate.writeCorrections(context.history.length)
    // Attempts under way may take a while to end.
    await context.host.stopDelivery()
    await context.codes.prepare(candidate.progress.version)
    await this.#correctChanged(candidate)
    // The candidate is near again, and little is left to save.
    await candidate.start()
    await candidate.caughtUp()
  }

  /** @returns how many keys have changed since the last time */
  async #correctChanged(candidate: Candidate): Promise<number> {
    const { live, liveVersion } = this.#context
    await candidate.start()
    await candidate.caughtUp()
    const changed = takeWrittenKeys(live)
    await live.checkpoint()
    return candidate.correctAhead(liveVersion, changed)
  }

  /**
   * The switch itself; the engine is quiesced.
   * @returns also the corrections that the log still lacks
   */
  async #switch(
    candidate: Candidate,
    approval: Approval,
  ): Promise<{ readonly promotion: Promotion; readonly rest: Corrections }> {
    const context = this.#context
    await align(context, candidate)
    const before = context.live
    const number = context.history.length
    const { identity, diff, note } = approval
    const { version } = candidate.progress
    const changed = takeWrittenKeys(before)
    const corrected = await candidate.correct(context.liveVersion, changed, number)
    const { count, first, hash, counts, effectsNew } = corrected
    const manifest = this.#slot.manifest!
    const after = await this.#slot.takeGeneration()
    const [here, there] = [before.processor.positions.join(), after.processor.positions.join()]
    assert(here === there, 'a promoted generation has the positions of the one before', there, here)
    const control = {
      type: 'promotion' as const,
      number,
      base: baseOf(context.history, after.number) ?? version,
      version,
      before: before.number,
      identity,
      diff,
      ...(note !== undefined && { note }),
      corrections: count,
      correctionsHash: hash,
    }
    try {
      await appendToAll(context, { generation: after.number, control })
    } catch (error) {
      await after.close()
      await this.#slot.tryOpen(manifest)
      throw error
    }
    // The generation before passes the record later, as the candidate: until the switch its position is that
    // of the rows read.
    await passControl(context, after)
    // From here to the end of this turn of the event loop nobody reads.
    context.live = after
    this.#slot.reserve({
      generation: before.number,
      version: before.program.version,
      wasLive: true,
      paused: false,
      ...(manifest.share !== undefined && { share: manifest.share }),
    })
    context.host.promoted()
    this.#before = before
    const rest =
      count === 0 ? none() : readCorrectionFiles(this.#kept, context.history[number] as PromotionFact)
    await this.#write(rest, first)
    return {
      promotion: {
        generation: after.number,
        version,
        before: before.number,
        corrections: counts,
        effectsNew,
        replayed: false,
      },
      rest,
    }
  }

  /** Writes the corrections that an earlier process could not. Nothing else is written meanwhile. */
  async finishCorrections(): Promise<void> {
    const { history, live } = this.#context
    const last = history.findLast((fact): fact is PromotionFact => fact.type === 'promotion')
    if (last === undefined || last.corrections === 0) return
    if (live.processor.corrections.count === last.corrections) return
    await this.#write(readCorrectionFiles(this.#kept, last), last.corrections)
  }

  /** Corrections for a partition whose append may have failed. */
  missingCorrections(partition: number): CorrectionRecord[] {
    const { live } = this.#context
    const applied = live.processor.corrections.last(partition)
    return this.#writing
      .filter((correction) => correction.n > applied && this.#partitionOf(correction) === partition)
      .map((correction) => ({ kind: 'correction', generation: live.number, correction }))
  }

  /** An outcome as clients received it, and as they will again once the log has its correction. */
  received(identity: Identity, stored: StoredOutcome | undefined): StoredOutcome | undefined {
    const outcome = stored && this.#before?.processor.decided(identity)?.outcome
    return outcome ? withReceived(stored, outcome) : stored
  }

  /** Writes the corrections with the numbers below `end` that the log lacks, in order in each partition. */
  async #write(corrections: Corrections, end: number): Promise<void> {
    for (let n = 0; n < end; ) {
      const { value: portion, done } = await corrections.next()
      if (done) break
      n += portion.length
      this.#queue(portion)
      await this.#context.host.idle()
    }
    this.#writing = []
  }

  /** Writes the corrections that are left, while requests go on. */
  async #writeBeside(corrections: Corrections): Promise<void> {
    const { live, host } = this.#context
    for await (const portion of corrections) {
      for (let from = 0; from < portion.length; from += besideAtOnce) {
        const closed = host.closed()
        if (closed) throw closed
        const some = portion.slice(from, from + besideAtOnce)
        const count = live.processor.corrections.count + some.length
        this.#queue(some)
        while (live.processor.corrections.count < count) await host.next()
      }
    }
    this.#writing = []
  }

  #queue(corrections: readonly RecordedCorrection[]): void {
    const { live, host } = this.#context
    this.#writing = corrections
    for (const correction of corrections) {
      const partition = this.#partitionOf(correction)
      if (correction.n <= live.processor.corrections.last(partition)) continue
      const record: CorrectionRecord = { kind: 'correction', generation: live.number, correction }
      host.write(partition, record, encodeCorrection(record))
    }
  }

  #partitionOf({ key }: RecordedCorrection): number {
    return partitionOf(key, this.#context.log.partitions)
  }

  readonly #kept = (name: string) => this.#context.storage.kept(name)
}

type Corrections = ReturnType<typeof readCorrectionFiles>

async function* none(): Corrections {}

/** The keys that a generation has saved since the last call; undefined if unknown. */
function takeWrittenKeys({ store, program }: Generation): WrittenKeys | undefined {
  return store.takeWrittenKeys(comparedCollections(program.app))
}
