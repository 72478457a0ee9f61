import { assert } from '../assert.ts'
import { comparedCollections } from '../diff/diff.ts'
import type { Generation } from '../generation/generation.ts'
import { baseOf } from '../log/control-history.ts'
import { partitionOf } from '../log/partitions.ts'
import { type CorrectionRecord, encodeCorrection, type RecordedCorrection } from '../log/record.ts'
import type { WrittenKeys } from '../state/tracking-store.ts'
import { align, appendToAll, passControl, saveAhead } from './alignment.ts'
import type { Candidate } from './candidate.ts'
import type { CandidateSlot } from './candidate-slot.ts'
import type { ReprocessContext } from './context.ts'
import { type PromotionFact, readCorrectionCounts, readCorrectionFiles } from './correction-files.ts'
import { approvalReused } from './errors.ts'
import type { Promotion } from './reprocessing.ts'

/** Requests wait for a promotion once at most this many keys change between comparisons: milliseconds. */
const changedKeysMax = 5_000

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
  /** The portion of corrections that is being written to the log. */
  #writing: readonly RecordedCorrection[] = []

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
      return await host.quiesce(() => this.#switch(candidate, approval))
    } finally {
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
      await candidate.start()
      await candidate.caughtUp()
      const changed = takeWrittenKeys(live)
      await live.checkpoint()
      count = await candidate.correctAhead(context.liveVersion, changed)
      // If the number hardly falls, requests come too fast for it to fall further.
      if (count <= changedKeysMax || count >= before / 2) break
    }
    // Attempts under way may take a while to end.
    await context.host.stopDelivery()
    await candidate.start()
    await candidate.caughtUp()
    await context.codes.prepare(candidate.progress.version)
    await saveAhead(context, candidate)
  }

  /** The switch itself; the engine is quiesced. */
  async #switch(candidate: Candidate, approval: Approval): Promise<Promotion> {
    const context = this.#context
    await align(context, candidate)
    const before = context.live
    const number = context.history.length
    const { identity, diff, note } = approval
    const { version } = candidate.progress
    const { count, hash, counts, effectsNew } = await candidate.correct(
      context.liveVersion,
      takeWrittenKeys(before),
      { number, identity, offset: before.processor.position(0) },
    )
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
    if (count > 0) await this.#write(context.history[number] as PromotionFact)
    return {
      generation: after.number,
      version,
      before: before.number,
      corrections: counts,
      effectsNew,
      replayed: false,
    }
  }

  /** Writes the corrections that an earlier process could not. Nothing else is written meanwhile. */
  async finishCorrections(): Promise<void> {
    const { history, live } = this.#context
    const last = history.findLast((fact): fact is PromotionFact => fact.type === 'promotion')
    if (last === undefined || last.corrections === 0) return
    if (live.processor.corrections.count === last.corrections) return
    await this.#write(last)
  }

  /** Corrections for a partition whose append may have failed. */
  missingCorrections(partition: number): CorrectionRecord[] {
    const { live } = this.#context
    const applied = live.processor.corrections.last(partition)
    return this.#writing
      .filter((correction) => correction.n > applied && this.#partitionOf(correction) === partition)
      .map((correction) => ({ kind: 'correction', generation: live.number, correction }))
  }

  /** Writes the corrections that the log lacks, in order in each partition. */
  async #write(promotion: PromotionFact): Promise<void> {
    const { live, host } = this.#context
    for await (const portion of readCorrectionFiles(this.#kept, promotion)) {
      this.#writing = portion
      for (const correction of portion) {
        const partition = this.#partitionOf(correction)
        if (correction.n <= live.processor.corrections.last(partition)) continue
        const record: CorrectionRecord = { kind: 'correction', generation: live.number, correction }
        host.write(partition, record, encodeCorrection(record))
      }
      await host.idle()
    }
    this.#writing = []
  }

  #partitionOf({ key }: RecordedCorrection): number {
    return partitionOf(key, this.#context.log.partitions)
  }

  readonly #kept = (name: string) => this.#context.storage.kept(name)
}

/** The keys that a generation has saved since the last call; undefined if unknown. */
function takeWrittenKeys({ store, program }: Generation): WrittenKeys | undefined {
  return store.takeWrittenKeys(comparedCollections(program.app))
}
