// This file is longer than 400 lines, because the way of one request stands here as a whole.
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { App, Enqueued, Reply } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import { assert } from '../assert.ts'
import { type Clock, orAborted, setTimer } from '../clock.ts'
import { fingerprintOf, type StoredOutcome } from '../derivation/stored-outcome.ts'
import type { Handlers } from '../effect/handlers.ts'
import type { TryNotes } from '../effect/tries.ts'
import { changeError, failedKey, HenceError, retryError, thrownText } from '../failure.ts'
import { Checkpointer } from '../generation/checkpointer.ts'
import { deriveTail, suspectMs, type TailHost } from '../generation/derive-tail.ts'
import type { Generation } from '../generation/generation.ts'
import { answeredId, type Identity, identityOf } from '../identity.ts'
import type { Appended, Log } from '../log/log.ts'
import { everyPartition, partitionOf } from '../log/partitions.ts'
import { type CorrectionRecord, encodeCorrection, encodeTick, encodeWatermark } from '../log/record.ts'
import { type Applied, failuresOf } from '../processor/applied.ts'
import { applyGroup } from '../processor/limits.ts'
import type { Processor } from '../processor/processor.ts'
import { heldBytesMax } from '../processor/spilled-queues.ts'
import type { Reader } from '../query/reader.ts'
import type { Preview } from '../query/story.ts'
import type { Reporter } from '../report.ts'
import { Admission, type Until, type WaitingSender } from '../request/admission.ts'
import {
  type AdmittedDefinition,
  type AdmittedRequest,
  type Input,
  inputOf,
  operatorMessage,
  requestOf,
} from '../request/message.ts'
import { Validation, type ValidationResult } from '../request/validation.ts'
import { expired, IdWindow } from '../request/window.ts'
import { type Append, isRetryable, type OutgoingRecord, PartitionWriter } from '../request/writer.ts'
import { Interruption } from '../sandbox/timed.ts'
import { terminatedRun, withinLimit } from '../sandbox/watchdog.ts'
import { ChangeFeed } from './change-feed.ts'
import { type EffectSource, LiveDelivery } from './delivery.ts'
import { Intake } from './intake.ts'
import { type StartWatch, startPause } from './start-pause.ts'
import type { SteadyClock } from './steady-clock.ts'
import { Ticker } from './ticker.ts'

/** A record unwritten for so long holds others up, in milliseconds; also how often that is checked. */
const stalledMs = 800
const watchMs = 400

/**
 * With several partitions, a batch of so few records is applied before the next one of its partition begins:
 * what follows from it, here and elsewhere, goes along, and a batch costs as much as several records.
 */
const smallBatch = 16

/** A request that is not admitted yet. */
interface Unadmitted {
  readonly definition: AdmittedDefinition
  readonly input: Input
  readonly options: SubmitOptions
  readonly identity: Identity
  readonly inReplyTo: string | undefined
  readonly sender: WaitingSender
}

interface PathOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly report: Reporter
  readonly confirmClock: boolean
  readonly windowMs: number
  readonly queueBytesMax: number
  readonly waitingBytesMax: number
  readonly checkpointRows: number
  readonly handlers?: Handlers<App> | undefined
  readonly stopping?: AbortSignal | undefined
  readonly log: Log
  readonly steady: SteadyClock
  /** The version of the code that the engine was opened with. */
  readonly version: string
  /** Of the tries of effects. */
  readonly notes: TryNotes | undefined
  /** Returns the corrections of a promotion that the log of a partition may lack, in order. */
  readonly missingCorrections: (partition: number) => readonly CorrectionRecord[]
  /** Returns what the live generation has derived, as clients received it; see `Promoter.received`. */
  readonly received: (identity: Identity, stored: StoredOutcome | undefined) => StoredOutcome | undefined
}

/**
 * The way of one request from `submit` to its reply, in the order of this file: it is admitted, appended to
 * the log of its partition, applied by the processor of the live generation, and answered. Events, ticks,
 * results of effects and corrections are appended and applied in the same way.
 */
export class RequestPath {
  readonly feed: ChangeFeed
  readonly delivery: LiveDelivery
  readonly checkpointer: Checkpointer
  readonly #options: PathOptions
  readonly #log: Log
  readonly #ids: IdWindow
  readonly #intake = new Intake()
  readonly #admission: Admission
  readonly #writers: readonly PartitionWriter[]
  readonly #ticker: Ticker
  readonly #ending = new AbortController()
  readonly #validation = new Validation<Unadmitted>({
    limitMs: () => suspectMs(this.#live.derivationMs),
    program: () => this.#live.program,
    interrupted: () => this.#startOverIdle(),
    done: (request, validated) => this.#validated(request, validated),
  })
  /** Settles when the live generation that started over has caught up; rejected, and kept, if it cannot. */
  #reloading: PromiseWithResolvers<void> | undefined
  /** Why nothing more is admitted. */
  #refusal: HenceError | undefined
  /** Whether `#watchClaims` looks again. */
  #isWatching = false
  /** The first record of the group that was interrupted. */
  #undecided: { readonly partition: number; readonly offset: number } | undefined
  #live: Generation

  constructor(live: Generation, options: PathOptions) {
    const { log, clock, steady } = options
    this.#live = live
    this.#options = options
    this.#log = log
    this.#ids = new IdWindow(steady, options.windowMs)
    this.#admission = new Admission(options, (identity) => this.#decided(identity))
    this.#writers = everyPartition(log).map((partition) => {
      const eventAt = (source: number, number: number) =>
        this.#processor.channels.at(source, partition, number)
      const eventBytesMax = heldBytesOf(options.queueBytesMax) / 4
      return new PartitionWriter(partition, log, clock, this.#reportHeld, eventAt, eventBytesMax)
    })
    this.#ticker = new Ticker(steady, () => this.tick())
    this.feed = new ChangeFeed(this.closed)
    const timed = (act: () => void) => this.#timed(act)
    this.delivery = new LiveDelivery({ ...options, timed }, (key, result) => this.#writeResult(key, result))
    this.checkpointer = new Checkpointer(() => this.#live, {
      rows: options.checkpointRows,
      failed: (error, isHopeless) => (isHopeless ? this.halt(error) : this.warn(error)),
    })
  }

  get waitingBytesMax(): number {
    return this.#options.waitingBytesMax
  }

  /** The app whose requests are admitted. */
  get app(): App {
    return this.#live.program.app
  }

  submit(type: string, input: unknown, options: SubmitOptions): Promise<Reply> {
    return this.#send(type, input, options, 'decided') as Promise<Reply>
  }

  enqueue(type: string, input: unknown, options: SubmitOptions): Promise<Enqueued> {
    return this.#send(type, input, options, 'durable')
  }

  /** Derives a request of an operator, with what would follow from it, and undoes it. */
  async preview(type: string, input: unknown, principal: string): Promise<Preview> {
    const { program } = await this.settled()
    this.closed.throwIfAborted()
    const identity = identityOf('preview', principal)
    const message = operatorMessage(type, input, program)
    const request = { kind: 'request', identity, ...message } as const
    let made: Preview | undefined
    const limitMs = this.#live.derivationMs
    try {
      const tookMs = await withinLimit(limitMs, () => {
        // After an interruption the state is not to be read.
        if (this.isSettled) made = this.#reader.preview(request, message.key, this.now())
      })
      if (tookMs === undefined) throw this.#processor.interruption()
    } catch (error) {
      if (!(error instanceof Interruption)) throw error
      this.#startOverIdle()
      throw changeError(
        'preview-too-long',
        `The preview of "${type}" did not end within ${limitMs} ms, or used up the stack: a function of the app does not end. ` +
          'Nothing was written.',
      )
    }
    return made ?? this.preview(type, input, principal)
  }

  #send(type: string, input: unknown, options: SubmitOptions, until: Until): Promise<Reply | Enqueued> {
    // One promise for each request, which the outcome itself resolves.
    return new Promise((resolve, reject) => {
      const elsewhere = this.#begin(type, input, options, { until, resolve, reject })
      if (elsewhere !== undefined) resolve(elsewhere)
    })
  }

  /** Admits a new request. Of a retry it returns the first outcome, once that is known. */
  #begin(
    type: string,
    input: unknown,
    options: SubmitOptions,
    sender: WaitingSender,
  ): Promise<Reply | Enqueued> | undefined {
    const { until } = sender
    const { requestId, principal = '', inReplyTo: answered } = options ?? {}
    const inReplyTo = answered === undefined ? undefined : answeredId(answered, requestId)
    if (this.#intake.reopening) return this.#after(this.#intake.opened(), type, input, options, until)
    if (this.#held) return this.#after(this.settled(), type, input, options, until)
    if (this.#refusal) throw this.#refusal
    this.closed.throwIfAborted()
    const { realm } = this.#live.program
    const definition = requestOf(this.app, type)
    const identity = identityOf(requestId, principal)
    this.#ids.check(identity, this.#processor.watermarks.highest)
    const sent = inputOf(type, input, realm)
    const { first, stored } = this.#admission.sentBefore(identity)
    if (first?.certain) {
      // Its append failed: only once the log was read again is it known whether this is a retry.
      const { heldUp } = this
      if (heldUp) throw heldUp
      return this.#after(first.certain, type, input, options, until)
    }
    if (first) return this.#admission.join(first, { type, input: sent.text }, stored, until)
    if (stored) return this.#replay(identity, { type, input: sent.text }, stored, until)
    this.#validation.add({ definition, input: sent, options, identity, inReplyTo, sender })
    return undefined
  }

  /** Begins again. Not in `#begin`, where every call would allocate what this function closes over. */
  #after(
    settled: Promise<unknown>,
    ...sent: [type: string, input: unknown, options: SubmitOptions, until: Until]
  ): Promise<Reply | Enqueued> {
    return settled.then(() => this.#send(...sent))
  }

  #validated(request: Unadmitted, validated: ValidationResult): void {
    const { definition, input, options, identity, inReplyTo, sender } = request
    const { until, resolve, reject } = sender
    try {
      if ('error' in validated) throw validated.error
      // Another one with this id was admitted meanwhile.
      if (this.#admission.has(identity))
        this.#send(definition.name, input.value, options, until).then(resolve, reject)
      else this.#admit(identity, inReplyTo ? { ...validated, inReplyTo } : validated, sender)
    } catch (error) {
      reject(error)
    }
  }

  #admit(identity: Identity, message: AdmittedRequest, sender: WaitingSender): void {
    this.closed.throwIfAborted()
    if (this.#processor.isFull(message.key)) throw keyFull(message.type, message.key)
    const partition = partitionOf(message.key, this.#log.partitions)
    const { heldUp } = this.#writers[partition]!
    if (heldUp) throw heldUp
    this.write(partition, this.#admission.admit(identity, message, sender, this.#processor.channels))
    this.#moveWatermark()
  }

  /** Seldom, and in the batch of a request: says in all partitions how far ids are forgotten. */
  #moveWatermark(): void {
    const watermark = this.#ids.due()
    if (watermark === undefined) return
    const outgoing = { record: { kind: 'watermark', watermark }, bytes: encodeWatermark(watermark) } as const
    for (const partition of everyPartition(this.#log)) this.write(partition, outgoing)
  }

  #decided(identity: Identity): StoredOutcome | undefined {
    return this.#options.received(identity, this.#processor.decided(identity))
  }

  /** Answers a retry of a request that the log has. */
  async #replay(
    identity: Identity,
    sent: { readonly type: string; readonly input: string },
    stored: StoredOutcome,
    until: Until,
  ): Promise<Reply | Enqueued> {
    // It is written as it was the first time, so the log need not be read.
    if (stored.fingerprint === fingerprintOf(sent))
      return this.#admission.replay(identity, sent, sent, stored, until)
    const { reader } = await this.settled()
    const { record } = await reader.request(stored.partition, stored.offset)
    await this.settled()
    const now = this.#decided(identity) ?? stored
    // A closed engine would never answer a new waiter.
    if (now.outcome === undefined) this.closed.throwIfAborted()
    return this.#admission.replay(identity, record, sent, now, until)
  }

  /** Queues a record for its partition; records that arrive in one turn of the event loop go into one batch. */
  write(partition: number, outgoing: OutgoingRecord): void {
    const writer = this.#writers[partition]!
    writer.add(outgoing)
    this.#wake(writer)
  }

  #wake(writer: PartitionWriter): void {
    if (writer.begin()) queueMicrotask(() => void this.#append(writer))
  }

  /** Queues a record, and resolves when it is applied, its append has failed, or the engine is closed. */
  written(partition: number, outgoing: OutgoingRecord): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.write(partition, { ...outgoing, done: resolve })
    return orAborted(promise, this.closed)
  }

  /**
   * Appends what is queued until nothing is. While one batch is applied, the next is already being written,
   * or those of other partitions are.
   */
  async #append(writer: PartitionWriter): Promise<void> {
    // The live generation has the events.
    const begin = async () => {
      while (this.#held) await this.settled()
      return writer.append()
    }
    try {
      let batch = this.#held ? await begin() : writer.append()
      while (batch !== undefined) {
        let next: Append | undefined
        try {
          const appended = await batch.durable
          writer.succeeded()
          const { room } = this.checkpointer
          if (room) await room
          const gathers = this.#writers.length > 1 && batch.records.length <= smallBatch
          if (!gathers && !this.#held) next = writer.append()
          await this.#apply(writer.partition, appended, batch.records)
          // Not if nothing is queued: a client that waits for each reply would keep the writer busy for ever.
          if (gathers && !writer.isEmpty) await nextTurn()
        } catch (error) {
          if (error instanceof Interruption) {
            await next?.durable.catch(() => {}) // Awaited again as the next batch.
            await this.#startOver(writer, error)
            this.#applied(writer.partition, batch.records)
          } else {
            if (!isRetryable(error)) throw error
            await this.#recover(writer, batch.records, error)
          }
        }
        batch = next ?? (this.#held ? await begin() : writer.append())
      }
    } catch (error) {
      writer.stop()
      this.halt(error)
    } finally {
      writer.rest()
    }
  }

  /**
   * Applies records that have just become durable; those that were applied when the generation started over
   * are skipped.
   * @throws Interruption; then nothing of the records from the position on was passed on
   */
  async #apply(partition: number, appended: Appended, records: readonly OutgoingRecord[]): Promise<void> {
    const { offset, time, batch } = appended
    for (;;) {
      if (this.#reloading) await this.settled()
      const processor = this.#processor
      const from = processor.position(partition)
      assert(from >= offset, 'a partition has applied all records before a batch', from, offset)
      const left = offset + records.length - from
      if (left <= 0) break
      const results: Applied[] = []
      const apply = (index: number) => {
        if (this.#reloading) return false
        const applied = processor.apply(partition, from + index, time, records[from - offset + index]!.record)
        assert(applied !== 'early', 'an event is appended after its cause was applied')
        results.push(applied)
        return true
      }
      try {
        await applyGroup(processor, left, suspectMs(this.#live.derivationMs), apply)
      } catch (error) {
        if (error instanceof Interruption) this.#hold({ partition, offset: from })
        else for (const applied of results) this.#passOn(applied)
        throw error
      }
      for (const applied of results) this.#passOn(applied)
      // A batch may change more than memory can hold.
      const room = this.checkpointer.saveIfDue()
      if (room) await room
    }
    if (batch) this.#processor.derivedFrom(partition, batch)
    this.#applied(partition, records)
  }

  /** Lets nobody use the live generation until `#startOver`. */
  #hold(undecided?: { readonly partition: number; readonly offset: number }): void {
    this.#live.state.abandon()
    this.delivery.pause()
    this.#undecided = undecided
    this.#reloading = Promise.withResolvers<void>()
    this.#reloading.promise.catch(() => {})
  }

  /** Records of a batch were applied, and their results passed on. */
  #applied(partition: number, records: readonly OutgoingRecord[]): void {
    this.#log.derived?.(partition, this.#processor.position(partition))
    for (const { record, done } of records) {
      if (record.kind === 'result') this.delivery.ended(record.effect)
      else if (record.kind === 'tick') this.#ticker.applied(partition)
      done?.()
    }
    const next = this.#processor.timers.next(partition)
    if (next < Number.POSITIVE_INFINITY && next <= this.now()) this.tick()
    else this.#ticker.wakeAt(next)
    void this.checkpointer.saveIfDue()
  }

  /** After an interruption: the generation goes back to its last checkpoint, and applies all that the log holds. */
  async #startOver(writer: PartitionWriter, interrupted?: Interruption): Promise<void> {
    const decided = [...this.#processor.positions]
    if (this.#undecided !== undefined) decided[this.#undecided.partition] = this.#undecided.offset
    try {
      await this.checkpointer.saving?.catch(() => {})
      await writer.persist(
        async () => void (await this.#deriveTail({ decided, interrupted, startOver: true })),
      )
    } catch (error) {
      this.#reloading!.reject(error)
      throw error
    }
    const { resolve } = this.#reloading!
    this.#reloading = undefined
    resolve()
    this.delivery.resume(this.#effectSource)
    this.tick()
  }

  /** Runs code of the app that derives nothing, under a limit; false if it was ended. */
  async #timed(act: () => void): Promise<boolean> {
    const hasEnded = (await withinLimit(suspectMs(this.#live.derivationMs), act)) !== undefined
    if (!hasEnded) this.#startOverIdle()
    return hasEnded
  }

  /** After an interruption of a validation. */
  #startOverIdle(): void {
    // A derivation was interrupted too, and so it starts over already.
    if (this.#reloading) return
    this.#hold()
    this.#startOver(this.#writers[0]!).catch((error) => this.halt(error))
  }

  async #deriveTail(
    options: Parameters<typeof deriveTail>[1],
    given: Partial<TailHost> = {},
  ): Promise<number> {
    const host = {
      log: this.#log,
      derived: () => this.#live,
      report: this.#options.report,
      pause: () => this.checkpointer.saveIfDue(),
      stops: () => this.#refusal !== undefined || this.#options.stopping?.aborted === true,
      passOn: this.#passOn,
      ...given,
    }
    const count = await deriveTail(host, options)
    this.#sayDerived()
    return count
  }

  /** Says in the log how far it is derived: those that follow it derive no more. */
  #sayDerived(): void {
    for (const [partition, position] of this.#processor.positions.entries())
      this.#log.derived?.(partition, position)
  }

  /** Answers the senders of decided requests, and passes on events, effects and changes. */
  readonly #passOn = (applied: Applied): void => {
    for (const { identity, stored } of applied.decided) {
      this.#admission.decided(identity, stored)
      if (stored.outcome === undefined) this.#watchClaims()
    }
    if (applied.expired) this.#admission.refuse(applied.expired, expired(applied.expired))
    for (const { target, event } of applied.emitted) {
      const writer = this.#writers[target]!
      writer.events.passOn(event.causePartition, event.channelNumber)
      this.#wake(writer)
    }
    this.#reportFailures(applied)
    this.delivery.asked(applied.trace)
    this.feed.advance()
    if (!this.feed.hasSubscribers) return
    const changes = this.#reader.changesOf(applied.partition, applied.offset, applied.trace)
    if (changes.length > 0) for (const error of this.feed.publish(changes)) this.warn(error)
  }

  /** Looks now and then whether requests wait for claims that cannot be judged at present. */
  #watchClaims(): void {
    if (this.#isWatching || this.closed.aborted) return
    this.#isWatching = true
    const look = () => {
      this.#isWatching = false
      const why = this.#reloading
        ? 'a derivation that did not end is being ruled on'
        : 'a partition of the log has not been written for a while'
      if (this.#admission.answerWaiting(this.#stalledMs > stalledMs ? why : undefined)) this.#watchClaims()
    }
    setTimer(this.#options.clock, watchMs, look, false)
  }

  /** After a failed append: applies what the log holds, and queues what it lacks. */
  async #recover(
    writer: PartitionWriter,
    records: readonly OutgoingRecord[],
    error: HenceError,
  ): Promise<void> {
    const { partition } = writer
    this.warn(error)
    for (const { record } of records)
      if (record.kind === 'request') this.#admission.uncertain(record.identity, error)
    // If an append fails while the engine closes, the next engine writes its events.
    if (writer.isFinishing) throw error
    // Reading may work where writing does not, for example on a disk that is read-only.
    await writer.backOff(error)
    await writer.persist(async () => {
      const found = await this.#deriveTail({
        decided: [...this.#processor.positions],
        partitions: [partition],
      })
      for (const outgoing of records) this.#settle(partition, outgoing)
      this.tick()
      writer.events.goBack(this.#processor.channels.into(partition))
      // Many corrections may wait, so they are made anew only where the log has some of them.
      if (found > 0) writer.requeue(this.#missing(partition), true)
      else
        writer.requeue(
          records.filter(({ record }) => record.kind === 'correction'),
          false,
        )
    })
    // If the generation started over meanwhile, other writers may have missed some of its events.
    for (const each of this.#writers) this.#wake(each)
    // Finds out whether writing works again, also if nobody sends anything.
    if (writer.heldUp && writer.isEmpty)
      this.write(partition, { record: { kind: 'tick' }, bytes: encodeTick() })
  }

  readonly #reportHeld = (writer: PartitionWriter, why: HenceError | undefined): void => {
    if (why === undefined) {
      this.#options.report({
        level: 'warning',
        code: 'writes-resumed',
        message: 'The log can be written again.',
      })
      return
    }
    this.#options.report({ level: 'alarm', code: why.code, message: why.message })
    for (const { record } of writer.takeRequests())
      if (record.kind === 'request') this.#admission.refuse(record.identity, why)
  }

  /** For how long some partition has not been written, although records wait for it, in milliseconds. */
  get #stalledMs(): number {
    return this.#writers.reduce((most, { waitsMs }) => Math.max(most, waitsMs), 0)
  }

  /** The age of the oldest record that waits to be written, an event since its cause, in milliseconds. */
  get unwrittenMs(): number {
    const oldest = this.isSettled ? this.#processor.channels.oldestAt : undefined
    return Math.max(this.#stalledMs, oldest === undefined ? 0 : this.now() - oldest)
  }

  /** Why requests are refused at present; undefined if they are taken. */
  get heldUp(): HenceError | undefined {
    return this.#writers.find(({ heldUp }) => heldUp)?.heldUp
  }

  /** The log was read again after the append of a record had failed. */
  #settle(partition: number, outgoing: OutgoingRecord): void {
    const { record, done } = outgoing
    done?.()
    if (record.kind === 'request') this.#admission.certain(record.identity)
    else if (record.kind === 'tick') this.#ticker.applied(partition)
    else if (record.kind === 'result') {
      const isLost = this.#processor.outbox.get(record.effect)?.state === 'pending'
      if (isLost) this.write(partition, outgoing)
      else this.delivery.ended(record.effect)
    }
  }

  /** The corrections that the log of a partition may lack, in order. */
  #missing(partition: number): OutgoingRecord[] {
    const missing = this.#options.missingCorrections(partition)
    return missing.map((record) => ({ record, bytes: encodeCorrection(record) }))
  }

  /** Appends all events that the live generation has and that the log may lack. */
  #appendEvents(): void {
    for (const writer of this.#writers) {
      writer.events.restart(this.#processor.channels.into(writer.partition))
      this.#wake(writer)
    }
  }

  /** Appends the result of an effect; while the engine is quiesced it waits. */
  #writeResult(key: string, result: OutgoingRecord): void {
    const partition = partitionOf(key, this.#log.partitions)
    const { reopening } = this.#intake
    if (reopening) void reopening.then(() => this.write(partition, result))
    else this.write(partition, result)
  }

  /** Appends a tick to each partition that has a timer due. */
  tick(): void {
    if (this.closed.aborted || this.#intake.reopening || this.#reloading) return
    const due = this.#ticker.due(this.#processor.timers, this.#log.partitions, this.now())
    for (const partition of due) this.write(partition, { record: { kind: 'tick' }, bytes: encodeTick() })
  }

  /** The current log time, never earlier than the last record's. */
  now(): number {
    return Math.max(this.#processor.time, this.#options.steady.logTime())
  }

  /** The machine's clock is right, although it has jumped. */
  confirmClock(): void {
    this.#options.steady.confirm()
    this.#ids.begin(this.#processor, true)
    this.tick()
  }

  /** Whether the live generation has caught up; while it starts over, it must not be read. */
  get isSettled(): boolean {
    return this.#reloading === undefined
  }

  /** Resolves when the live generation may be read, or is held again; undefined while it may. */
  get #held(): Promise<void> | undefined {
    return this.#reloading?.promise ?? terminatedRun()
  }

  /** The live generation, once it has caught up; throws if its state is damaged. */
  async settled(): Promise<Generation> {
    for (let held = this.#held; held !== undefined; held = this.#held) await held
    const { reason } = this.closed
    // No answer may come from damaged state.
    if (reason?.cause instanceof HenceError && reason.cause.code === 'state-unreadable') throw reason
    return this.#live
  }

  /** Low watermark: no future record can have a smaller log time. */
  get lowWatermark(): number {
    let lowest = this.#processor.time
    for (const { isBusy, partition } of this.#writers) {
      if (isBusy) lowest = Math.min(lowest, this.#processor.timeOf(partition))
    }
    return lowest
  }

  /** All records with an earlier log time are applied, and more of them will not come. */
  get frontier(): number {
    if (this.#writers.some(({ isBusy }) => isBusy)) return this.lowWatermark
    if (this.#log.partitions === 1) return Number.POSITIVE_INFINITY
    return Math.max(this.lowWatermark, this.#options.steady.logTime())
  }

  /** Counters of requests. */
  get load(): Pick<Admission, 'inFlight' | 'queuedBytes' | 'replies'> {
    return this.#admission
  }

  /** Applies what the log holds beyond the last checkpoint, and appends the events that it lacks. */
  async start(given: Pick<TailHost, 'run' | 'deriveApart'>, options: StartWatch): Promise<number> {
    const { signal } = options
    const decided: number[] = []
    let count = 0
    for (const [partition, position] of this.#processor.positions.entries()) {
      count += Math.max(0, (await this.#log.end(partition)) - position)
      decided.push((await this.#log.decided?.(partition)) ?? 0)
    }
    const passOn = (applied: Applied) => this.#reportFailures(applied)
    const save = () => this.checkpointer.saveIfDue()
    const pause = startPause(count, { ...options, clock: this.#options.steady, save })
    const stops = () => signal?.aborted === true
    const deriving = this.#deriveTail({ decided }, { ...given, passOn, pause, stops })
    const replayed = await deriving.finally(() => signal?.throwIfAborted())
    this.#ids.begin(this.#processor, this.#options.confirmClock)
    this.#appendEvents()
    for (const partition of everyPartition(this.#log))
      for (const missing of this.#missing(partition)) this.write(partition, missing)
    return replayed
  }

  /** Another generation is live; to be called while the engine is quiesced. */
  switchTo(generation: Generation): void {
    assert(
      this.#intake.reopening !== undefined,
      'the live generation changes only while the engine is quiesced',
    )
    this.#live = generation
    this.#appendEvents()
    // Readers of the change feed notice that they must read the tables again.
    this.feed.advance()
  }

  /** Begins to deliver the effects of the live generation. */
  startDelivery(): void {
    if (this.closed.aborted) return
    this.delivery.start(this.#live.program, this.#effectSource)
  }

  get #effectSource(): EffectSource {
    const { processor } = this.#live
    return { outbox: processor.outbox, place: (id) => processor.placeOf(id) }
  }

  /** Resolves when every queued record, with all events that follow, is applied. */
  async idle(): Promise<void> {
    await this.#validation.idle
    await this.settled()
    // A drained partition may get events from one that was not.
    do await Promise.all(this.#writers.map((writer) => writer.drained()))
    while (this.#writers.some((writer) => writer.isBusy))
  }

  /** Drains the requests in flight, then acts while nothing else happens; new requests wait meanwhile. */
  async quiesce<T>(act: () => Promise<T>): Promise<T> {
    await this.#intake.close()
    try {
      await this.idle()
      await this.checkpointer.saving
      this.closed.throwIfAborted()
      assert(this.#processor.isDrained, 'nothing is in flight between partitions when no writer is busy')
      return await act()
    } finally {
      this.#sayDerived()
      this.#intake.open()
      this.tick()
    }
  }

  /** Aborted when no more requests are admitted; its reason is a HenceError. */
  get closed(): AbortSignal {
    return this.#ending.signal
  }

  /** Stops the engine because going on could do harm. */
  halt(error: unknown): void {
    const isClosing = error instanceof HenceError && error.code === 'engine-closed'
    // A closing engine need not be stopped, but it cannot finish what was admitted, and reports that.
    if (this.closed.aborted) {
      if (!isClosing) this.warn(error)
      return
    }
    const why = isClosing ? error : stopped(error)
    this.#ending.abort(why)
    this.stop(why)
    void this.delivery.stop({ atOnce: true })
    if (isClosing) return
    // A process whose log was taken needs nobody: it may start again, and follows.
    const level = why.advice === 'retry' ? 'warning' : 'alarm'
    this.#options.report({ level, code: why.code, message: why.message })
  }

  /** Refuses what is sent from now on, and resolves when what was sent before is admitted. */
  async closeIntake(why: HenceError): Promise<void> {
    this.#refusal = why
    await this.#validation.idle
  }

  /** Admits nothing more. */
  close(why: HenceError): void {
    if (!this.closed.aborted) this.#ending.abort(why)
    this.#ticker.stop()
  }

  /** Applies everything that was admitted, but does not repeat appends that fail. */
  async drain(): Promise<void> {
    for (const writer of this.#writers) writer.finish()
    await this.idle()
  }

  /** Appends nothing more, and rejects everything that is waiting. */
  stop(why: HenceError): void {
    for (const writer of this.#writers) writer.stop()
    this.#admission.abandon(why)
    this.#processor.completion.abandon(why)
    this.feed.end(why)
  }

  warn(error: unknown): void {
    const code = error instanceof HenceError ? error.code : 'unexpected-error'
    this.#options.report({ level: 'warning', code, message: thrownText(error) })
  }

  #reportFailures(applied: Applied): void {
    for (const { partition, offset, type, key, code, message } of failuresOf(applied)) {
      this.#options.report({
        level: 'alarm',
        code: 'derivation-failed',
        message: `Record ${offset} of partition ${partition} (${type} ${failedKey(key)}) failed with ${code}: ${message}`,
      })
    }
  }

  get live(): Generation {
    return this.#live
  }

  get #processor(): Processor {
    return this.#live.processor
  }

  get #reader(): Reader {
    return this.#live.reader
  }
}

/** How many bytes of events that wait stay in memory after a checkpoint; with new ones, below the bound. */
export function heldBytesOf(queueBytesMax: number): number {
  return Math.min(heldBytesMax, queueBytesMax / 8)
}

function keyFull(type: string, key: string): HenceError {
  return retryError(
    'overloaded',
    `Too many requests of the key ${JSON.stringify(key)} wait for one that waits for its claims. Nothing was written: send the ` +
      `same request ("${type}") again later. If this happens often, too many requests share this key.`,
  )
}

function stopped(cause: unknown): HenceError {
  const message = thrownText(cause)
  const code = cause instanceof HenceError ? cause.code : 'unexpected-error'
  const isLost = ['data-lost', 'data-taken', 'carrier-lost-records', 'log-taken'].includes(code)
  return new HenceError(
    'engine-stopped',
    // The process that has taken the log answers.
    code === 'log-taken' ? 'retry' : 'operator',
    `The engine has stopped, because continuing could do harm (${code}): ${message}` +
      (isLost ? '' : ' Nothing that was acknowledged is lost: fix the cause and start it again.'),
    { cause },
  )
}
