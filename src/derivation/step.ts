// This file is longer than 400 lines, because the order in which one step derives stands here as a whole.
import { correctionReactionName, effectReactionName } from '../app/app.ts'
import { isSystemMessage } from '../app/name.ts'
import { isOfJudge } from '../constraint/judges.ts'
import type { EffectEnd } from '../effect/outbox.ts'
import { changeError, type HenceError } from '../failure.ts'
import type {
  CorrectionRecord,
  EventRecord,
  LogRecord,
  RecordedCorrection,
  RequestRecord,
  ResultRecord,
} from '../log/record.ts'
import { AppCode, unknownMessage } from './app-code.ts'
import { type Chain, type Emission, Origin } from './chain.ts'
import { ClaimMessages } from './claim-messages.ts'
import type { DerivationContext, RecordContext } from './context.ts'
import {
  askAgain,
  correctionFor,
  isAskedFor,
  isOfCorrection,
  keepFirstContent,
  mustStay,
  type ReplacedEffect,
} from './correction.ts'
import { inputHash } from './early-results.ts'
import { hexOf } from './host-turn.ts'
import { RequestDecider } from './request-decision.ts'
import { correctionSeed, eventId, requestSeed } from './seed.ts'
import type { Decision, Derivation, StepResult } from './step-result.ts'
import type { Timer, TimerName } from './timers.ts'
import { type Parked, resumeMessage } from './waiting-keys.ts'

/** How many events may follow in one step from the record or a timer: a bound for endless chains. */
const eventsPerRootMax = 100_000

/** How many parked messages are released in one step. */
const releasedMax = 100

/** How many due timers of a partition go off in one step, beside those of keys that are released. */
const timersMax = 100

/**
 * Derives one record at a time: the timers that its time sets off, then the record itself; after each of them
 * the events that stay in the partition, in the order of emission. If more timers are due than go off in one
 * step, the next records set the rest off; a message for a key that has some of them is parked behind them. A
 * derivation that throws is undone by itself, so the result of an event does not depend on whether it stayed
 * in the partition.
 *
 * A message for a key of which a request waits for verdicts is parked (`WaitingKeys`). In the step in which
 * that request ends, what is parked is derived, in order, each message at its own log time.
 */
export class Deriver {
  readonly context: DerivationContext
  readonly recordContext: RecordContext
  readonly #app: AppCode
  readonly #claims: ClaimMessages
  readonly #requests: RequestDecider
  #result: StepResult = emptyResult()
  /** Events that stay in the partition and are still to be derived. */
  #staying: Emission[] = []
  /** Those that a key sent to itself: they have the time of the message before, and are never parked. */
  readonly #own = new Map<Emission, number>()
  /** How many events of the app have followed from the record or timer. */
  #followed = 0
  /** The request that has begun to wait, if the verdict does not come in this step. */
  #asking: { readonly key: string; readonly scope: string; readonly identity: string } | undefined
  /** Keys whose request has ended: what is parked for them is to be released. */
  #ended: Ended[] = []
  #released = 0
  /** Whether more timers were due than go off in this step. */
  #hasLate = false
  /** Effects that were asked for, if there are early results. */
  #asked: { readonly id: string; readonly at: number }[] = []

  /** @param recordContext of the record that `derive` is called with: one object, updated each time */
  constructor(context: DerivationContext, recordContext: RecordContext) {
    this.context = context
    this.recordContext = recordContext
    this.#app = new AppCode(context, recordContext)
    this.#claims = new ClaimMessages(this.#app)
    const mustWait = (key: string, type: string) => this.#mustWait(key, type)
    this.#requests = new RequestDecider(this.#app, this.#claims, mustWait)
  }

  /**
   * @throws HenceError `unknown-message`, `unknown-version` (operator), and errors of the state that are not
   *   the fault of a derivation, such as `state-unreadable` (operator); the caller must then undo the changes
   *   of state
   */
  derive(record: LogRecord): StepResult {
    const result = emptyResult()
    this.#result = result
    // If the step before threw, some may be left.
    if (this.#staying.length > 0) this.#staying = []
    if (this.#ended.length > 0) this.#ended = []
    if (this.#asked.length > 0) this.#asked = []
    this.#asking = undefined
    if (this.#own.size > 0) this.#own.clear()
    this.#followed = 0
    this.#released = 0
    this.#hasLate = false
    this.recordContext.attempts = 0
    this.context.waiting.tidy()
    this.context.timers.tidy()
    this.#timers()
    if (record.kind === 'request') this.#request(record)
    else if (record.kind === 'event') this.#event(record)
    else if (record.kind === 'result') this.#effectResult(record)
    else if (record.kind === 'correction') this.#correction(record)
    return result
  }

  #timers(): void {
    const { timers, waiting } = this.context
    const { partition, time } = this.recordContext
    let n = 0
    for (; n < timersMax; n++) {
      const timer = timers.takeDue(partition, time)
      if (timer === undefined) break
      if (waiting.mustWait(timer.key, timer.event)) {
        timers.park(timer)
        continue
      }
      this.#timer(timer)
      this.#deriveStaying()
    }
    this.#hasLate = n === timersMax && timers.next(partition) <= time
  }

  #timer({ event, version = 1, key, data, id, depth, at, ...chain }: TimerName & Timer): void {
    this.#messageOf('timer', { type: event, version, key, data, id, depth, at, ...chain })
  }

  #request(record: RequestRecord): void {
    const { root = this.recordContext, time } = this.recordContext
    const chain: Chain = {
      identity: record.identity,
      rootPartition: root.partition,
      rootOffset: root.offset,
    }
    this.#decideRequest(record, chain, time, true)
    this.#deriveStaying()
  }

  /** @param isNew whether it comes from the log, and may have to be moved or parked first */
  #decideRequest(record: RequestRecord, chain: Chain, at: number, isNew: boolean): void {
    const { identity, type } = record
    const origin = new Origin(0, () => requestSeed(this.recordContext.logId, identity))
    const derivation = this.#begin('request', type, '', chain, at)
    let outcome: ReturnType<RequestDecider['decide']>
    this.#attempt(derivation, () => {
      outcome = this.#requests.decide(derivation, record, origin, isNew)
    })
    if (outcome === 'moved' || outcome === 'parked') {
      // The request is derived later, so it leaves no trace here.
      this.#result.derivations = this.#result.derivations.slice(0, -1)
      if (outcome === 'moved') {
        this.#result.moved = added(this.#result.moved, { record, key: derivation.key })
        return
      }
      const { version, input, output } = record
      const message = { kind: 'request' as const, ...chain, at, type, version, input }
      this.#park(derivation.key, output === undefined ? message : { ...message, output })
      outcome = undefined
    } else if (derivation.failure) outcome = { status: 'failed', ...derivation.failure }
    else if (outcome === undefined) {
      this.#asking = { key: derivation.key, scope: this.#app.request(type, chain).scope, identity }
    }
    this.#decided({ chain, outcome })
  }

  /** A request may begin to wait and be decided in one step: then only the latter counts. */
  #decided(decision: Decision): void {
    const { decisions } = this.#result
    const { rootPartition, rootOffset } = decision.chain
    const before = decisions.findIndex(
      ({ chain }) => chain.rootOffset === rootOffset && chain.rootPartition === rootPartition,
    )
    if (before < 0) this.#result.decisions = added(decisions, decision)
    else this.#result.decisions = decisions.with(before, decision)
  }

  #event(record: EventRecord): void {
    const { type, version, key, data, id, depth } = record
    const message = { type, version, key, data, depth, ...chainOf(record), at: this.recordContext.time }
    if (this.#mustWait(key, type, data)) this.#parkEvent({ ...message, id: hexOf(id) })
    else this.#messageOf('event', message, id)
    this.#deriveStaying()
  }

  #parkEvent({ key, ...event }: Message): void {
    this.#park(key, { kind: 'event', ...event })
  }

  /** @param seed the id as a latin1 string, if it is at hand */
  #messageOf(
    kind: 'event' | 'timer',
    message: Omit<Message, 'id'> & { readonly id?: string },
    seed?: string,
  ): void {
    const { type, version, key, data, id, depth, at } = message
    const origin = new Origin(depth, () => seed ?? seedOf(id!))
    const derivation = this.#begin(kind, type, key, chainOf(message), at)
    this.#attempt(derivation, () =>
      this.#react(derivation, this.#app.dataOf(derivation, version, data), origin),
    )
  }

  #effectResult(record: ResultRecord): void {
    const { outbox, earlyResults } = this.context
    const { time } = this.recordContext
    const row = outbox.known(record.effect)
    if (row === undefined || inputHash(row.input) !== record.input) earlyResults.keep(record, time)
    else if (!this.recordContext.isHere(row.key))
      this.#result.moved = added(this.#result.moved, { record, key: row.key })
    else {
      this.#endEffect(record, time, true)
      this.#deriveStaying()
    }
  }

  /** @param canWait whether the reaction is parked if its key waits */
  #endEffect({ effect: id, done, tries, ms, text }: ResultRecord, at: number, canWait: boolean): void {
    const { outbox, program } = this.context
    const end: EffectEnd = done
      ? { done, tries, ms, result: JSON.parse(text) }
      : { done, tries, ms, error: text }
    const row = outbox.end(id, end, at)
    if (row === undefined) return
    const { type, scope, key, depth, input, redrives = 0 } = row
    const message = { ...chainOf(row), at, effect: id, type, scope, depth, input, done, text, redrives }
    const name = `${type}/${done ? 'result' : 'dead'}`
    const hasReaction = program.app.reactions.has(effectReactionName(scope, type, done ? 'result' : 'dead'))
    if (canWait && hasReaction && this.#mustWait(key, name)) this.#park(key, { kind: 'result', ...message })
    else this.#reactToResult(key, message)
  }

  /** Ends effects that were asked for just now, and whose results came before. */
  #endAsked(): void {
    const { outbox, earlyResults } = this.context
    for (let asked = this.#asked.shift(); asked !== undefined; asked = this.#asked.shift()) {
      const { id, at } = asked
      const { input, redrives } = outbox.get(id)!
      // One that an operator sends again waits for a new result.
      if (redrives !== undefined) continue
      for (const result of earlyResults.take(id, input)) this.#endEffect(result, at, false)
    }
  }

  #reactToResult(key: string, message: Omit<Extract<Parked, { kind: 'result' }>, 'kind'>): void {
    const { effect: id, type, scope, depth, input, done, text, redrives, at } = message
    const { program } = this.context
    const part = done ? 'result' : 'dead'
    const derivation = this.#begin('result', `${type}/${part}`, key, chainOf(message), at)
    const reaction = program.app.reactions.get(effectReactionName(scope, type, part))
    this.#attempt(derivation, () => {
      if (reaction === undefined) return
      // Parsed and not sealed: limits of values are for what derivations make; this is in the log already.
      const ending = done ? `"result":${text}` : `"error":${JSON.stringify(text)}`
      const data = program.realm.parseFrozen(`{"id":${JSON.stringify(id)},"input":${input},${ending}}`)
      const origin = new Origin(depth + 1, () => `${part} ${id} ${redrives}`)
      this.#app.react(derivation, reaction, data, origin)
    })
  }

  /** A difference that a promotion made: the app may compensate for it. */
  #correction({ correction }: CorrectionRecord): void {
    const { key, identity, rootPartition, rootOffset, what } = correction
    const { outbox, program } = this.context
    const { time } = this.recordContext
    const isEffect = what.kind === 'effect' && isAskedFor(outbox, what)
    if (isEffect || (what.kind === 'effect' && mustStay(outbox, what)))
      keepFirstContent(program.app, outbox, what, time)
    const chain: Chain = { identity, rootPartition, rootOffset }
    if (this.#mustWait(key, what.kind)) {
      this.#park(key, { kind: 'correction', ...chain, at: time, correction, isAskedFor: isEffect })
    } else this.#reactToCorrection(correction, isEffect, chain, time)
    this.#deriveStaying()
  }

  #reactToCorrection(correction: RecordedCorrection, isEffect: boolean, chain: Chain, at: number): void {
    const { scope, key, promotion, n, what } = correction
    const { program, outbox } = this.context
    const { logId } = this.recordContext
    const origin = new Origin(0, () => correctionSeed(logId, promotion, n))
    const derivation = this.#begin('correction', what.kind, key, chain, at)
    // An earlier promotion has corrected this outcome, or asked for this effect: the app is not asked.
    if (what.kind === 'outcome' ? what.kept : what.kind === 'effect' && isOfCorrection(what)) return
    const reaction = program.app.reactions.get(correctionReactionName(scope))
    this.#attempt(derivation, () => {
      if (reaction !== undefined) {
        const data = program.realm.parseFrozen(JSON.stringify(correctionFor(correction)))
        this.#app.react(derivation, reaction, data, origin)
        for (const id of derivation.effects) outbox.add(id, { ...outbox.get(id)!, correction: true })
      } else if (isEffect) {
        derivation.effects = [askAgain(outbox, what as ReplacedEffect, origin, at)]
      }
    })
  }

  /** Whether a message must be parked: its key waits, or has timers that are due before it. */
  #mustWait(key: string, type: string, data?: unknown): boolean {
    const { waiting, timers } = this.context
    if (waiting.mustWait(key, type, data)) return true
    const { partition, time } = this.recordContext
    return (
      this.#hasLate &&
      timers.isDue(partition, key, time) &&
      type !== resumeMessage &&
      !waiting.get(key)?.asking
    )
  }

  #park(key: string, message: Parked): void {
    const { waiting } = this.context
    if (waiting.get(key) === undefined) {
      waiting.begin(key, null)
      const { logId } = this.recordContext
      const origin = new Origin(0, () => parkedSeed(logId, message))
      this.#ended.push({ key, origin, chain: chainOf(message) })
    }
    waiting.park(key, message)
    this.#result.parked = added(this.#result.parked, { chain: chainOf(message), isReleased: false })
  }

  /** A request that waited for verdicts has ended, or what is parked for its key goes on being released. */
  #end(ended: Ended): void {
    const { waiting } = this.context
    if (this.#asking?.key === ended.key) this.#asking = undefined
    if (waiting.get(ended.key) === undefined) return
    waiting.end(ended.key)
    this.#ended.push(ended)
  }

  /** Derives what is parked for a key, until another request waits. The timers of the key go off in between. */
  #release({ key, origin, chain }: Ended): void {
    const { waiting, timers } = this.context
    const { partition, time } = this.recordContext
    for (let row = waiting.get(key); row?.asking === null; row = waiting.get(key)) {
      const message = waiting.first(key, row)
      const timer = timers.nextOf(partition, key, message?.at, time)
      if (message === undefined && timer === undefined) {
        waiting.remove(key)
        timers.passed(partition, key)
        return
      }
      if (this.#released >= releasedMax) {
        const resume = new Origin(0, () => eventId(origin.seed, resumeMessage, 0))
        this.#result.outgoing = added(this.#result.outgoing, {
          type: resumeMessage,
          version: 1,
          key,
          data: {},
          origin: resume,
          chain,
        })
        return
      }
      this.#released++
      if (timer !== undefined) {
        timers.take(timer)
        this.#timer(timer)
      } else {
        waiting.shift(key, row, message!)
        this.#result.parked = added(this.#result.parked, { chain: chainOf(message!), isReleased: true })
        this.#deriveParked(key, message!)
      }
      this.#derivePart()
    }
  }

  #deriveParked(key: string, message: Parked): void {
    const { at } = message
    if (message.kind === 'event') this.#messageOf('event', { ...message, key })
    else if (message.kind === 'result') this.#reactToResult(key, message)
    else if (message.kind === 'correction') {
      this.#reactToCorrection(message.correction, message.isAskedFor, chainOf(message), at)
    } else {
      const { identity, type, version, input, output } = message
      const record: RequestRecord = { kind: 'request', identity, type, version, input, output }
      this.#decideRequest(record, chainOf(message), at, false)
    }
  }

  #begin(kind: Derivation['kind'], type: string, key: string, chain: Chain, at: number): Derivation {
    const derivation: Derivation = {
      kind,
      type,
      key,
      chain,
      at,
      changes: none,
      emissions: none,
      effects: none,
      failure: undefined,
    }
    this.#result.derivations = added(this.#result.derivations, derivation)
    return derivation
  }

  /** Runs a derivation, and hands its events on; if it throws, nothing of it stays but the failure. */
  #attempt(derivation: Derivation, act: () => void): void {
    const start = this.recordContext.mark()
    const failure = this.#app.attempt(derivation, start, act)
    if (failure !== undefined) {
      derivation.failure = failure
      derivation.emissions = none
      derivation.effects = none
    }
    derivation.changes = this.recordContext.readableChanges(start)
    const { key, type, at } = derivation
    if (derivation.effects.length > 0 && !this.context.earlyResults.isEmpty) {
      for (const id of derivation.effects) this.#asked.push({ id, at })
    }
    for (const emission of derivation.emissions) {
      if (emission.isLater || !this.recordContext.isHere(emission.key)) {
        this.#result.outgoing = added(this.#result.outgoing, emission)
        continue
      }
      this.#staying.push(emission)
      if (emission.key !== key || (at === this.recordContext.time && this.context.waiting.isEmpty)) continue
      // Answers of this key's judge are parked like those before them, so none overtakes another.
      const isAnswer = isSystemMessage(emission.type) && !isOfJudge(emission.type)
      if (!isOfJudge(type) && (!isAnswer || type === 'hence:verdict')) this.#own.set(emission, at)
    }
  }

  /** Derives what follows from a record or timer in its partition, and what was parked until then. */
  #deriveStaying(): void {
    const isNothing = this.#staying.length === 0 && this.#asked.length === 0 && this.#asking === undefined
    if (isNothing && this.#ended.length === 0) return
    this.#derivePart()
    for (let ended = this.#ended.shift(); ended !== undefined; ended = this.#ended.shift())
      this.#release(ended)
    this.#followed = 0
  }

  /** Derives the events that stay in the partition, and the events that follow from them. */
  #derivePart(): void {
    const staying = this.#staying
    const { waiting } = this.context
    for (let i = 0; ; i++) {
      if (i === staying.length) this.#endAsked()
      if (i === staying.length) break
      const emission = staying[i]!
      const { type, key, data, origin, chain } = emission
      const own = this.#own.get(emission)
      const at = own ?? this.recordContext.time
      if (own === undefined && this.#mustWait(key, type, data)) {
        const { version } = emission
        const { depth, seed } = origin
        const text = JSON.stringify(data)
        this.#parkEvent({ type, version, key, data: text, id: hexOf(seed), depth, ...chain, at })
        continue
      }
      const derivation = this.#begin('event', type, key, chain, at)
      this.#attempt(derivation, () => {
        // System messages follow from messages of the app, and their chains are finite.
        if (!isSystemMessage(type) && ++this.#followed > eventsPerRootMax) throw endless(type)
        this.#react(derivation, data, origin)
      })
    }
    if (staying.length > 0) this.#staying = []
    if (this.#own.size > 0) this.#own.clear()
    if (this.#asking === undefined) return
    const { key, ...asking } = this.#asking
    waiting.begin(key, asking)
    this.#asking = undefined
  }

  #react(derivation: Derivation, data: unknown, origin: Origin): void {
    const { type } = derivation
    if (type === resumeMessage) {
      const { key, chain } = derivation
      if (this.context.waiting.get(key)?.asking === null) this.#end({ key, origin, chain })
      return
    }
    if (isSystemMessage(type)) {
      const decision = this.#claims.message(derivation, data, origin)
      if (decision === undefined) return
      this.#decided(decision)
      this.#end({ key: derivation.key, origin, chain: decision.chain })
      return
    }
    const { app } = this.context.program
    const reaction = app.reactions.get(type)
    if (reaction === undefined) {
      throw unknownMessage(app, this.#app.sourceOf(derivation), 'an event', type)
    }
    this.#app.react(derivation, reaction, data, origin)
  }
}

/** A key whose request has ended, and the message that ended it. */
interface Ended {
  readonly key: string
  readonly origin: Origin
  readonly chain: Chain
}

/** An event or a timer, as it is stored. */
type Message = Omit<Extract<Parked, { kind: 'event' }>, 'kind'> & { readonly key: string }

function emptyResult(): StepResult {
  return { derivations: none, outgoing: none, decisions: none, parked: none, moved: none }
}

const none: readonly never[] = []

/** Adds to a list that began as `none`. Most steps make one of a kind; a list that grows takes room for 17. */
function added<T>(list: readonly T[], item: T): readonly T[] {
  if (list.length === 0) return [item]
  ;(list as T[]).push(item)
  return list
}

/** The seed of what follows from a parked message, the same in every generation. */
function parkedSeed(logId: string, message: Parked): string {
  if (message.kind === 'request') return requestSeed(logId, message.identity)
  if (message.kind === 'event') return seedOf(message.id)
  if (message.kind === 'result') return `parked ${message.effect} ${message.redrives}`
  return correctionSeed(logId, message.correction.promotion, message.correction.n)
}

function seedOf(id: string): string {
  return Buffer.from(id, 'hex').toString('latin1')
}

function chainOf({ identity, rootPartition, rootOffset }: Chain): Chain {
  return { identity, rootPartition, rootOffset }
}

function endless(type: string): HenceError {
  return changeError(
    'too-many-events',
    `"${type}" comes after ${eventsPerRootMax} others that follow from one record in its partition: do ` +
      'reactions emit each other without end?',
  )
}
