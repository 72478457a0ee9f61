import { correctionReactionName, effectReactionName } from '../app/app.ts'
import {
  type App,
  type Correction,
  HenceError,
  type Outcome,
  type Reaction,
  type Request,
} from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { isRejection } from '../app/outcome.ts'
import { ask, claimsInOrder, giveBack, holderOf, lapse, setHolder, without } from '../constraint/holder.ts'
import { claim, compensated, confirm, deadline, release } from '../constraint/judge.ts'
import type { ClaimHolder, HeldClaim } from '../constraint/tables.ts'
import type { Messages, Turn } from '../constraint/turn.ts'
import { type EffectEnd, type EffectRow, replacedError } from '../effect/outbox.ts'
import { principalOf, requestIdOf } from '../identity.ts'
import type {
  CorrectedEffect,
  CorrectionRecord,
  EventRecord,
  LogRecord,
  RequestRecord,
  ResultRecord,
} from '../log/record.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { canonicalJson } from '../state/digest.ts'
import { checkPartitionKey } from '../state/keys.ts'
import type { StateChange } from '../state/state.ts'
import { type Chain, type Emission, Origin } from './chain.ts'
import { constraintNamed, type DerivationContext } from './context.ts'
import { type Facts, HostTurn } from './host-turn.ts'
import { operatorRequests } from './operator.ts'
import { correctionSeed, namedUuid, requestSeed } from './seed.ts'
import { Transaction } from './transaction.ts'
import { unknownVersion, upcast } from './upcast.ts'

/** What one record of the log led to. */
export interface Step {
  /** What was derived, in order: timers that the record's time set off, the record, and the events that stayed. */
  readonly derivations: Derivation[]
  /** Events for other partitions, in the order of emission. */
  readonly outgoing: Emission[]
  /** Requests that were decided, or, with no outcome, that wait for their claims. */
  readonly decisions: Decision[]
  /** What belongs to another partition by this code, and was not derived here. */
  readonly moved: { readonly record: RequestRecord | ResultRecord; readonly key: string }[]
}

/** One derivation under one partition key. */
export interface Derivation {
  readonly kind: 'request' | 'event' | 'timer' | 'result' | 'correction'
  /** The request or event that it derived from. */
  readonly type: string
  /** The partition key; empty when the input of a request gives none. */
  key: string
  chain: Chain
  /** What became of rows, by its end. */
  changes: readonly StateChange[]
  emissions: readonly Emission[]
  /** The ids of effects that are to be delivered. */
  effects: readonly string[]
  /** It threw: nothing of it stands. */
  failure: Failure | undefined
}

export interface Decision {
  readonly chain: Chain
  readonly outcome: Outcome | undefined
}

/** Why a derivation threw. */
export interface Failure {
  readonly code: string
  readonly message: string
}

/** What a step needs to know and may do outside its own derivations. */
export interface RecordContext {
  readonly logId: string
  /** Where the record stands, and its log time. */
  readonly partition: number
  readonly offset: number
  readonly time: number
  /** Where a request stands that this code derives in another partition than that of its record. */
  readonly root: { readonly partition: number; readonly offset: number } | undefined
  /** Whether a partition key belongs to the partition that the record stands in. */
  isHere(key: string): boolean
  mark(): number
  undo(mark: number): void
  changes(mark: number): readonly StateChange[]
}

/** How many events may follow in one step from the record, or from a timer: a bound for chains that fan out without end. */
const eventsPerRootMax = 100_000

/**
 * Derives what follows from one record: the timers that it sets off, then the record itself; after each of them
 * the events that stay in the partition, in the order of their emission. Each derivation is undone by itself
 * when it throws, so that what becomes of an event does not depend on whether it stayed in the partition.
 *
 * @throws HenceError `unknown-message`, `unknown-version` (operator), and whatever the state throws that is not the
 *   derivation's own fault, such as `state-unreadable` (operator); then nothing of the step may be kept
 */
export function takeStep(place: DerivationContext, record: LogRecord, around: RecordContext): Step {
  const taking = new Taking(place, around)
  taking.timers()
  if (record.kind === 'request') taking.request(record)
  else if (record.kind === 'event') taking.event(record)
  else if (record.kind === 'result') taking.result(record)
  else if (record.kind === 'correction') taking.correction(record)
  return taking.step
}

class Taking {
  readonly step: Step = { derivations: [], outgoing: [], decisions: [], moved: [] }
  readonly #place: DerivationContext
  readonly #around: RecordContext
  #here: Emission[] = []
  /** How many events of the app have followed. */
  #followed = 0

  constructor(place: DerivationContext, around: RecordContext) {
    this.#place = place
    this.#around = around
  }

  timers(): void {
    const { timers } = this.#place
    const { partition, time } = this.#around
    for (let timer = timers.take(partition, time); timer; timer = timers.take(partition, time)) {
      const { event, version = 1, key, data, id, depth, at } = timer
      const origin = new Origin(depth, () => Buffer.from(id, 'hex').toString('latin1'))
      const derivation = this.#begin('timer', event, key, chainOf(timer))
      this.#attempt(derivation, () =>
        this.#react(derivation, this.#parse(derivation, version, data), origin, at),
      )
      this.#drain()
    }
  }

  request(record: RequestRecord): void {
    const { logId, root = this.#around } = this.#around
    const { partition, offset } = root
    const { identity, type } = record
    const chain: Chain = { identity, rootPartition: partition, rootOffset: offset }
    const origin = new Origin(0, () => requestSeed(logId, identity))
    const derivation = this.#begin('request', type, '', chain)
    let outcome: Outcome | undefined
    this.#attempt(derivation, () => {
      outcome = operatorRequests.has(type)
        ? this.#operate(derivation, record, origin)
        : this.#decide(derivation, record, origin)
    })
    if (this.step.moved.length > 0) {
      // Nothing of it happened here.
      this.step.derivations.pop()
      return
    }
    if (derivation.failure) outcome = { status: 'failed', ...derivation.failure }
    this.step.decisions.push({ chain, outcome })
    this.#drain()
  }

  event(record: EventRecord): void {
    const { type, version, key, data, id, depth } = record
    const origin = new Origin(depth, () => id)
    const derivation = this.#begin('event', type, key, chainOf(record))
    this.#attempt(derivation, () => this.#react(derivation, this.#parse(derivation, version, data), origin))
    this.#drain()
  }

  result(record: ResultRecord): void {
    const { effect: id, done, tries, text } = record
    const { outbox, program } = this.#place
    const before = outbox.get(id)
    // What nobody asked for any more, after code has changed say, is of no effect.
    if (before === undefined) return
    if (!this.#around.isHere(before.key)) {
      this.step.moved.push({ record, key: before.key })
      return
    }
    const end: EffectEnd = done ? { done, tries, result: JSON.parse(text) } : { done, tries, error: text }
    const row = outbox.end(id, end, this.#around.time)
    if (row === undefined) return
    const { type, scope, key, depth, input } = row
    const part = done ? 'result' : 'dead'
    const derivation = this.#begin('result', `${type}/${part}`, key, chainOf(row))
    const reaction = program.app.reactions.get(effectReactionName(scope, type, part))
    this.#attempt(derivation, () => {
      if (reaction === undefined) return
      // Read, and not sealed: the limits of values are for what a derivation makes, and this is in the log already.
      const came = done ? `"result":${text}` : `"error":${JSON.stringify(text)}`
      const data = program.realm.parseFrozen(`{"id":${JSON.stringify(id)},"input":${input},${came}}`)
      const origin = new Origin(depth + 1, () => `${part} ${id} ${row.redrives ?? 0}`)
      this.#runReaction(derivation, reaction, data, origin, this.#around.time)
    })
    this.#drain()
  }

  /** What a promotion changed: the app makes good. */
  correction({ correction }: CorrectionRecord): void {
    const { scope, key, identity, rootPartition, rootOffset, promotion, n, what } = correction
    const { program } = this.#place
    const { logId, time } = this.#around
    const chain: Chain = { identity, rootPartition, rootOffset }
    const origin = new Origin(0, () => correctionSeed(logId, promotion, n))
    // A later generation may ask for something else than what was promoted then: nothing takes its place there.
    let isAsked = false
    if (what.kind === 'effect') {
      if (what.settled) {
        this.result(endedRecord(what))
        return
      }
      isAsked = what.after !== undefined && this.#isAsked(what.id, what.after)
      if (isAsked) this.#keepFirst(what)
    }
    const derivation = this.#begin('correction', what.kind, key, chain)
    // It leaves its trace, and nobody is told again.
    if (what.kind === 'outcome' && what.kept) return
    const reaction = program.app.reactions.get(correctionReactionName(scope))
    this.#attempt(derivation, () => {
      if (reaction !== undefined) {
        const data = program.realm.parseFrozen(JSON.stringify(correctionFor(correction)))
        this.#runReaction(derivation, reaction, data, origin, time)
        const { outbox } = this.#place
        for (const id of derivation.effects) outbox.add(id, { ...outbox.get(id)!, correction: true })
      } else if (isAsked && what.kind === 'effect' && what.after !== undefined) {
        const { type, after: input } = what
        const id = namedUuid(origin.seed, type, 0)
        const { state: _, endedAt: _e, tries: _t, result: _r, error: _f, ...asked } = what.before as EffectRow
        this.#place.outbox.add(id, { ...asked, input, state: 'pending', at: time })
        derivation.effects = [id]
      }
    })
    this.#drain()
  }

  /** Whether an effect is asked for with this input. */
  #isAsked(id: string, input: string): boolean {
    const row = this.#place.outbox.get(id)
    return row !== undefined && canonicalJson(JSON.parse(row.input)) === canonicalJson(JSON.parse(input))
  }

  /** What was sent under an id stays what it was: nothing else ever goes out under it. */
  #keepFirst({ id, before }: CorrectedEffect): void {
    const sent = before as EffectRow
    const isKnown = sent.state !== 'pending'
    this.#place.outbox.add(
      id,
      isKnown
        ? sent
        : {
            ...sent,
            state: 'dead',
            endedAt: this.#around.time,
            tries: 0,
            error: replacedError,
          },
    )
  }

  /** The data of an event, as the app knows it today. */
  #parse(derivation: Derivation, version: number, data: string): unknown {
    const { type } = derivation
    if (isSystemMessage(type)) {
      if (version !== 1) throw unknownVersion(this.#sourceOf(derivation), 'an event', type, version, 1)
      // It is for Hence's own code, so it belongs to the main realm.
      return JSON.parse(data)
    }
    const { app, realm } = this.#place.program
    const event = app.events.get(type)
    if (event === undefined) throw unknownMessage(app, this.#sourceOf(derivation), 'an event', type)
    if (version === event.version) return realm.parseFrozen(data)
    return upcast(this.#place, event, version, data, this.#sourceOf(derivation))
  }

  /** The input of a request, as the app knows it today. */
  #inputOf(request: Request, version: number, text: string, { rootPartition, rootOffset }: Root): unknown {
    if (version === request.version) return this.#place.program.realm.parse(text)
    return upcast(this.#place, request, version, text, `Record ${rootPartition}:${rootOffset}`)
  }

  /** For errors: the record that a message stands in, or, for a timer's, the one that it follows from. */
  #sourceOf({ kind, chain }: Derivation): string {
    const { partition, offset } = this.#around
    const root = `${chain.rootPartition}:${chain.rootOffset}`
    if (kind === 'timer') return `A timer that follows from record ${root}`
    return `Record ${kind === 'request' ? root : `${partition}:${offset}`}`
  }

  #begin(kind: Derivation['kind'], type: string, key: string, chain: Chain): Derivation {
    const derivation: Derivation = {
      kind,
      type,
      key,
      chain,
      changes: [],
      emissions: [],
      effects: [],
      failure: undefined,
    }
    this.step.derivations.push(derivation)
    return derivation
  }

  /** Runs a derivation; when it throws, nothing of it stands. */
  #attempt(derivation: Derivation, act: () => void): void {
    const { mark, changes } = this.#around
    const start = mark()
    try {
      act()
      this.#throwFault()
    } catch (error) {
      derivation.failure = this.#failureOf(error)
      this.#undo(start)
      derivation.emissions = []
      derivation.effects = []
    }
    derivation.changes = changes(start)
    for (const emission of derivation.emissions) {
      ;(this.#around.isHere(emission.key) ? this.#here : this.step.outgoing).push(emission)
    }
  }

  #undo(mark: number): void {
    this.#around.undo(mark)
    this.#place.timers.forgetNext()
  }

  /** Ends the turn of the app, if it is its turn, and tells why it threw. Throws what is not the app's own fault. */
  #failureOf(error: unknown): Failure {
    const { deriving } = this.#place.program
    const isApps = deriving.active
    deriving.active = false
    this.#throwFault()
    // Hence's own code runs with the guards off. What the app throws is its own, whatever it advises.
    if (error instanceof HenceError && error.advice !== 'change' && !isApps) throw error
    return describe(error)
  }

  #throwFault(): void {
    const { deriving } = this.#place.program
    const { fault } = deriving
    deriving.fault = undefined
    if (fault !== undefined) throw fault
  }

  /** Derives the events that stayed, and what follows from them. */
  #drain(): void {
    const here = this.#here
    for (let i = 0; i < here.length; i++) {
      const { type, key, data, origin, chain } = here[i]!
      const derivation = this.#begin('event', type, key, chain)
      this.#attempt(derivation, () => {
        // Messages of Hence's own follow from those of the app, and come to an end by themselves.
        if (!isSystemMessage(type) && ++this.#followed > eventsPerRootMax) throw endless(type)
        this.#react(derivation, data, origin)
      })
    }
    if (here.length > 0) this.#here = []
    this.#followed = 0
  }

  #react(derivation: Derivation, data: unknown, origin: Origin, time = this.#around.time): void {
    const { type } = derivation
    if (isSystemMessage(type)) {
      this.#own(derivation, data, origin, time)
      return
    }
    const { app } = this.#place.program
    const reaction = app.reactions.get(type)
    if (reaction === undefined) throw unknownMessage(app, this.#sourceOf(derivation), 'an event', type)
    this.#runReaction(derivation, reaction, data, origin, time)
  }

  #runReaction(
    derivation: Derivation,
    reaction: Reaction,
    data: unknown,
    origin: Origin,
    time: number,
  ): void {
    const { deriving } = this.#place.program
    const tx = new Transaction(
      this.#place,
      reaction.scope,
      derivation.key,
      this.#facts(derivation, time),
      origin,
    )
    deriving.active = true
    assertSynchronous(reaction.react(tx, data))
    deriving.active = false
    tx.end()
    derivation.emissions = tx.emissions
    derivation.effects = tx.effects
  }

  /** Decides a request of the app; undefined when it must wait for its claims. */
  #decide(derivation: Derivation, record: RequestRecord, origin: Origin): Outcome | undefined {
    const { app, deriving } = this.#place.program
    const { type, version } = record
    const request = requestNamed(app, type, derivation.chain)
    const text = record.output ?? record.input
    const input = this.#inputOf(request, version, text, derivation.chain)
    deriving.active = true
    const key = request.key(input)
    checkPartitionKey(key, `request "${type}"`)
    derivation.key = key
    if (!this.#around.isHere(key)) {
      deriving.active = false
      this.step.moved.push({ record, key })
      return undefined
    }
    const wanted = request.claims === undefined ? none : request.claims(input)
    deriving.active = false
    if (wanted.length === 0) return this.#derive(derivation, request, input, origin)

    const { scope } = request
    const { identity, rootPartition, rootOffset } = derivation.chain
    const claims = claimsInOrder(identity, wanted, (name) => constraintNamed(this.#place, name))
    const emissions: Emission[] = []
    const turn = new HostTurn(this.#place, key, this.#facts(derivation), origin, emissions)
    const root = { rootPartition, rootOffset }
    const holder = { type, version, input: text, ...root, claims, granted: 0 }
    if (claims[0]!.strict) {
      setHolder(turn, scope, identity, { ...holder, state: 'asking' })
      ask(turn, scope, identity, claims[0]!)
      derivation.emissions = emissions
      return undefined
    }
    const outcome = this.#derive(derivation, request, input, origin)
    if (outcome.status === 'accepted') {
      setHolder(turn, scope, identity, { ...holder, state: 'standing' })
      for (const each of claims) ask(turn, scope, identity, each)
      derivation.emissions = [...derivation.emissions, ...emissions]
    }
    return outcome
  }

  /** Runs the app's own decision; what it changed is undone when it rejects. */
  #derive(derivation: Derivation, request: Request, input: unknown, origin: Origin): Outcome {
    const { deriving } = this.#place.program
    const start = this.#around.mark()
    const tx = new Transaction(this.#place, request.scope, derivation.key, this.#facts(derivation), origin)
    deriving.active = true
    const result = request.derive(tx, input)
    tx.end()
    assertSynchronous(result)
    if (isRejection(result)) {
      deriving.active = false
      this.#undo(start)
      const { reason, details } = result
      if (typeof reason !== 'string')
        throw new HenceError('not-json', 'change', 'The reason of a rejection must be text.')
      if (details === undefined) return { status: 'rejected', reason }
      return { status: 'rejected', reason, details: mainRealm.seal(details) as never }
    }
    const value = mainRealm.seal(result ?? null) as never
    deriving.active = false
    derivation.emissions = tx.emissions
    derivation.effects = tx.effects
    return { status: 'accepted', value }
  }

  #operate(derivation: Derivation, record: RequestRecord, origin: Origin): Outcome {
    const { type, version } = record
    if (version !== 1) throw unknownVersion(this.#sourceOf(derivation), 'a request', type, version, 1)
    const request = operatorRequests.get(type)!
    const input = JSON.parse(record.output ?? record.input) as never
    derivation.key = request.key(input)
    const emissions: Emission[] = []
    const turn = new HostTurn(this.#place, derivation.key, this.#facts(derivation), origin, emissions)
    const { outcome, effects = [] } = request.decide(turn, this.#place.outbox, input)
    if (outcome.status !== 'accepted') return outcome
    derivation.emissions = emissions
    derivation.effects = effects
    return outcome
  }

  /** Messages of Hence's own. */
  #own(derivation: Derivation, data: unknown, origin: Origin, time: number): void {
    const emissions: Emission[] = []
    const type = derivation.type as keyof Messages
    const isVerdict = type === 'hence:verdict'
    // A verdict takes the request itself further, however many claims it asks for: its chain begins here.
    const from = isVerdict ? new Origin(0, () => origin.seed) : origin
    const turn = new HostTurn(this.#place, derivation.key, this.#facts(derivation, time), from, emissions)
    derivation.emissions = emissions
    if (isVerdict) {
      this.#verdict(derivation, turn, emissions, data as Messages['hence:verdict'])
    } else if (type === 'hence:compensate') {
      this.#compensate(derivation, turn, emissions, data as Messages['hence:compensate'], origin)
    } else if (type === 'hence:lapse') {
      const gone = data as Messages['hence:lapse']
      if (!this.#refuseIfAsking(turn, gone)) lapse(turn, gone)
    } else {
      const judge = judges[type]
      if (judge === undefined) {
        throw unknownMessage(this.#place.program.app, this.#sourceOf(derivation), 'an event', type)
      }
      judge(turn, data as never)
    }
  }

  /** One strict claim was granted or denied: asks for the next, or decides the request. */
  #verdict(
    derivation: Derivation,
    turn: HostTurn,
    emissions: Emission[],
    { identity, scope, constraint, key, granted }: Messages['hence:verdict'],
  ): void {
    const holder = holderOf(turn, scope, identity)
    if (holder === undefined) {
      // It was refused meanwhile, since it lost a claim that was granted before this one.
      if (granted) turn.send('hence:release', key, { constraint, identity })
      return
    }
    const { claims } = holder
    const { chain } = derivation
    if (!granted) {
      this.#refuse(turn, scope, holder, chain, { constraint, key })
      return
    }
    const count = holder.granted + 1
    const next = claims[count]
    if (next?.strict) {
      setHolder(turn, scope, identity, { ...holder, granted: count })
      ask(turn, scope, identity, next)
      return
    }
    const { version = 1 } = holder
    const request = requestNamed(this.#place.program.app, holder.type, holder)
    const origin = new Origin(0, () => requestSeed(this.#around.logId, identity))
    let outcome: Outcome
    const start = this.#around.mark()
    try {
      const input = this.#inputOf(request, version, holder.input, holder)
      outcome = this.#derive(derivation, request, input, origin)
    } catch (error) {
      derivation.failure = this.#failureOf(error)
      this.#undo(start)
      derivation.effects = []
      outcome = { status: 'failed', ...derivation.failure }
    }
    if (outcome.status === 'accepted') {
      emissions.unshift(...derivation.emissions)
      setHolder(turn, scope, identity, { ...holder, granted: count, state: 'standing' })
      for (const loose of claims.slice(count)) ask(turn, scope, identity, loose)
    } else {
      giveBack(turn, identity, claims.slice(0, count))
      setHolder(turn, scope, identity, undefined)
    }
    derivation.emissions = emissions
    this.step.decisions.push({ chain, outcome })
  }

  /** Refuses a request that asks for claims: what it was granted is given back. */
  #refuse(
    turn: HostTurn,
    scope: string,
    holder: ClaimHolder,
    chain: Chain,
    { constraint, key }: { readonly constraint: string; readonly key: string },
  ): void {
    const granted = holder.claims.slice(0, holder.granted)
    giveBack(turn, chain.identity, without(granted, constraint, key))
    setHolder(turn, scope, chain.identity, undefined)
    this.step.decisions.push({
      chain,
      outcome: { status: 'rejected', reason: constraint, details: { key } },
    })
  }

  /** A claim was lost before its request was decided, so the request is refused: it has nothing to make good. */
  #refuseIfAsking(
    turn: HostTurn,
    {
      identity,
      scope,
      constraint,
      key,
    }: Pick<Messages['hence:lapse'], 'identity' | 'scope' | 'constraint' | 'key'>,
  ): boolean {
    const holder = holderOf(turn, scope, identity)
    if (holder?.state !== 'asking') return false
    const { rootPartition, rootOffset } = holder
    this.#refuse(turn, scope, holder, { identity, rootPartition, rootOffset }, { constraint, key })
    return true
  }

  /** A request must give way: its app makes good, and all else that it holds is given back. */
  #compensate(
    derivation: Derivation,
    turn: HostTurn,
    emissions: Emission[],
    { identity, scope, constraint, key, violation }: Messages['hence:compensate'],
    origin: Origin,
  ): void {
    const answer = (how: 'compensated' | 'released' | 'failed') =>
      turn.send('hence:compensated', key, { violation, identity, how })
    const holder = holderOf(turn, scope, identity)
    const isRefused = this.#refuseIfAsking(turn, { identity, scope, constraint, key })
    if (isRefused || holder === undefined || !holds(holder.claims, constraint, key)) {
      answer('released')
      return
    }
    const { type, version = 1, rootPartition, rootOffset } = holder
    const { program } = this.#place
    const request = requestNamed(program.app, type, holder)
    const victim: Chain = { identity, rootPartition, rootOffset }
    giveBack(turn, identity, without(holder.claims, constraint, key))
    setHolder(turn, scope, identity, undefined)
    const start = this.#around.mark()
    try {
      if (request.compensate !== undefined) {
        const facts = { ...this.#facts(derivation), chain: victim }
        const tx = new Transaction(this.#place, scope, derivation.key, facts, origin)
        const input = this.#inputOf(request, version, holder.input, holder)
        program.deriving.active = true
        assertSynchronous(
          request.compensate(tx, input, program.realm.seal({ violation, constraint, key }) as never),
        )
        program.deriving.active = false
        tx.end()
        emissions.push(...tx.emissions)
        derivation.effects = tx.effects
      }
      // From here on it is a part of the victim's story.
      derivation.chain = victim
      answer('compensated')
    } catch (error) {
      derivation.failure = this.#failureOf(error)
      this.#undo(start)
      answer('failed')
    }
  }

  #facts({ chain }: Derivation, time = this.#around.time): Facts {
    return { chain, time, partition: this.#around.partition }
  }
}

/** What the judge of a key does with the messages that it gets. */
const judges: { readonly [T in keyof Messages]?: (turn: Turn, data: Messages[T]) => void } = {
  'hence:claim': claim,
  'hence:release': release,
  'hence:confirm': confirm,
  'hence:compensated': compensated,
  'hence:deadline': deadline,
}

/** Where a request stands in the log. */
type Root = Pick<Chain, 'rootPartition' | 'rootOffset'>

const none: readonly never[] = []

/** The record of what came of an effect, made anew of its row. */
function endedRecord({ id, before }: CorrectedEffect): ResultRecord {
  const { state, tries = 0, result = 'null', error = '' } = before as EffectRow
  const done = state === 'done'
  return { kind: 'result', effect: id, done, tries, text: done ? result : error }
}

/** A correction as the app gets it. */
export function correctionFor({ identity, what }: CorrectionRecord['correction']): Correction {
  if (what.kind === 'outcome') {
    const { kind, type, input, before, after } = what
    const sender = { requestId: requestIdOf(identity), principal: principalOf(identity) }
    return { kind, ...sender, type, input, before: before as Outcome, after: after as Outcome }
  }
  if (what.kind === 'effect') {
    const { kind, id, type, after } = what
    const { input, state } = what.before as EffectRow
    return {
      kind,
      id,
      type,
      before: { input: JSON.parse(input), state },
      after: after === undefined ? undefined : { input: JSON.parse(after) },
    }
  }
  const { kind, table, rowKey, before, after } = what
  return { kind, table, key: rowKey.slice(1), before, after }
}

function holds(claims: readonly HeldClaim[], constraint: string, key: string): boolean {
  return claims.some((each) => each.constraint === constraint && each.key === key)
}

function chainOf({ identity, rootPartition, rootOffset }: Chain): Chain {
  return { identity, rootPartition, rootOffset }
}

function requestNamed(app: App, type: string, { rootPartition, rootOffset }: Root): Request {
  const request = app.requests.get(type)
  if (request !== undefined) return request
  throw unknownMessage(app, `Record ${rootPartition}:${rootOffset}`, 'a request', type)
}

/** A message that the code does not know is no failure of a derivation: going on would lose it. */
function unknownMessage(app: App, where: string, what: string, type: string): HenceError {
  return new HenceError(
    'unknown-message',
    'operator',
    `${where} holds ${what} "${type}", which the app "${app.name}" does not define. ` +
      'Put its definition back; what is in the log must stay readable.',
  )
}

function endless(type: string): HenceError {
  return new HenceError(
    'too-many-events',
    'change',
    `"${type}" comes after ${eventsPerRootMax} others that follow from one record in its partition: do reactions emit each other without end?`,
  )
}

/** Code and message, never a stack, which differs between engines. */
function describe(error: unknown): Failure {
  if (error instanceof HenceError) return { code: error.code, message: error.message }
  let message = 'It threw something that has no text.'
  try {
    const thrown = error as { name?: unknown; message?: unknown }
    message = thrown?.message === undefined ? String(error) : `${thrown.name}: ${thrown.message}`
  } catch {
    // A thrown value may refuse even to be read.
  }
  return { code: 'derivation-threw', message }
}
