import { correctionReactionName, effectReactionName } from '../app/app.ts'
import { HenceError, type Outcome } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import type { EffectEnd } from '../effect/outbox.ts'
import type { CorrectionRecord, EventRecord, LogRecord, RequestRecord, ResultRecord } from '../log/record.ts'
import { AppCode, unknownMessage } from './app-code.ts'
import { type Chain, type Emission, Origin } from './chain.ts'
import { ClaimMessages } from './claim-messages.ts'
import type { DerivationContext, RecordContext } from './context.ts'
import { askAgain, correctionFor, endedRecord, isAskedFor, keepFirstContent } from './correction.ts'
import { HostTurn } from './host-turn.ts'
import { operatorRequests } from './operator.ts'
import { correctionSeed, requestSeed } from './seed.ts'
import type { Derivation, StepResult } from './step-result.ts'
import { unknownVersion } from './upcast.ts'

/**
 * How many events may follow in one step from the record or from one timer: a bound for chains that fan out
 * without end.
 */
const eventsPerRootMax = 100_000

/**
 * Derives one record at a time: the timers that its time sets off, then the record itself; after each of them
 * the events that stay in the partition, in the order of emission. A derivation that throws is undone by
 * itself, so the result of an event does not depend on whether it stayed in the partition.
 */
export class Deriver {
  readonly context: DerivationContext
  readonly recordContext: RecordContext
  readonly #app: AppCode
  readonly #claims: ClaimMessages
  #result: StepResult = emptyResult()
  /** Events that stay in the partition and are still to be derived. */
  #staying: Emission[] = []
  /** How many events of the app have followed from the record or timer. */
  #followed = 0

  /**
   * @param recordContext describes the record that `derive` is called with; one object, updated for each
   * record
   */
  constructor(context: DerivationContext, recordContext: RecordContext) {
    this.context = context
    this.recordContext = recordContext
    this.#app = new AppCode(context, recordContext)
    this.#claims = new ClaimMessages(context, recordContext, this.#app)
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
    this.#followed = 0
    this.recordContext.attempts = 0
    this.#timers()
    if (record.kind === 'request') this.#request(record)
    else if (record.kind === 'event') this.#event(record)
    else if (record.kind === 'result') this.#effectResult(record)
    else if (record.kind === 'correction') this.#correction(record)
    return result
  }

  #timers(): void {
    const { timers } = this.context
    const { partition, time } = this.recordContext
    for (let timer = timers.takeDue(partition, time); timer; timer = timers.takeDue(partition, time)) {
      const { event, version = 1, key, data, id, depth, at } = timer
      const origin = new Origin(depth, () => Buffer.from(id, 'hex').toString('latin1'))
      const derivation = this.#begin('timer', event, key, chainOf(timer))
      this.#attempt(derivation, () =>
        this.#react(derivation, this.#app.dataOf(derivation, version, data), origin, at),
      )
      this.#deriveStaying()
    }
  }

  #request(record: RequestRecord): void {
    const { logId, root = this.recordContext } = this.recordContext
    const { partition, offset } = root
    const { identity, type } = record
    const chain: Chain = { identity, rootPartition: partition, rootOffset: offset }
    const origin = new Origin(0, () => requestSeed(logId, identity))
    const derivation = this.#begin('request', type, '', chain)
    let outcome: Outcome | undefined
    this.#attempt(derivation, () => {
      outcome = operatorRequests.has(type)
        ? this.#decideAsOperator(derivation, record, origin)
        : this.#decide(derivation, record, origin)
    })
    if (this.#result.moved.length > 0) {
      // The request is derived in another partition, so it leaves no trace here.
      this.#result.derivations.pop()
      return
    }
    if (derivation.failure) outcome = { status: 'failed', ...derivation.failure }
    this.#result.decisions.push({ chain, outcome })
    this.#deriveStaying()
  }

  #event(record: EventRecord): void {
    const { type, version, key, data, id, depth } = record
    const origin = new Origin(depth, () => id)
    const derivation = this.#begin('event', type, key, chainOf(record))
    this.#attempt(derivation, () =>
      this.#react(derivation, this.#app.dataOf(derivation, version, data), origin),
    )
    this.#deriveStaying()
  }

  #effectResult(record: ResultRecord): void {
    const { effect: id, done, tries, text } = record
    const { outbox, program } = this.context
    const before = outbox.get(id)
    // Nobody has asked for this effect, for example because the code has changed since: the result has no
    // consequence.
    if (before === undefined) return
    if (!this.recordContext.isHere(before.key)) {
      this.#result.moved.push({ record, key: before.key })
      return
    }
    const end: EffectEnd = done ? { done, tries, result: JSON.parse(text) } : { done, tries, error: text }
    const row = outbox.end(id, end, this.recordContext.time)
    if (row === undefined) return
    const { type, scope, key, depth, input } = row
    const part = done ? 'result' : 'dead'
    const derivation = this.#begin('result', `${type}/${part}`, key, chainOf(row))
    const reaction = program.app.reactions.get(effectReactionName(scope, type, part))
    this.#attempt(derivation, () => {
      if (reaction === undefined) return
      // Parsed and not sealed: the limits of values are for what derivations make, and this is in the log
      // already.
      const ending = done ? `"result":${text}` : `"error":${JSON.stringify(text)}`
      const data = program.realm.parseFrozen(`{"id":${JSON.stringify(id)},"input":${input},${ending}}`)
      const origin = new Origin(depth + 1, () => `${part} ${id} ${row.redrives ?? 0}`)
      this.#app.react(derivation, reaction, data, origin, this.recordContext.time)
    })
    this.#deriveStaying()
  }

  /** A difference that a promotion made: the app may compensate for it. */
  #correction({ correction }: CorrectionRecord): void {
    const { scope, key, identity, rootPartition, rootOffset, promotion, n, what } = correction
    const { program, outbox } = this.context
    const { logId, time } = this.recordContext
    if (what.kind === 'effect' && what.settled) {
      this.#effectResult(endedRecord(what))
      return
    }
    const chain: Chain = { identity, rootPartition, rootOffset }
    const origin = new Origin(0, () => correctionSeed(logId, promotion, n))
    const effect = what.kind === 'effect' && isAskedFor(outbox, what) ? what : undefined
    if (effect) keepFirstContent(outbox, effect, time)
    const derivation = this.#begin('correction', what.kind, key, chain)
    // An earlier promotion has already corrected this outcome, so the app is not asked again.
    if (what.kind === 'outcome' && what.kept) return
    const reaction = program.app.reactions.get(correctionReactionName(scope))
    this.#attempt(derivation, () => {
      if (reaction !== undefined) {
        const data = program.realm.parseFrozen(JSON.stringify(correctionFor(correction)))
        this.#app.react(derivation, reaction, data, origin, time)
        for (const id of derivation.effects) outbox.add(id, { ...outbox.get(id)!, correction: true })
      } else if (effect) {
        derivation.effects = [askAgain(outbox, effect, origin, time)]
      }
    })
    this.#deriveStaying()
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
    this.#result.derivations.push(derivation)
    return derivation
  }

  /** Runs a derivation, and hands its events on; if it throws, nothing of it stays but the failure. */
  #attempt(derivation: Derivation, act: () => void): void {
    const start = this.recordContext.mark()
    const failure = this.#app.attempt(derivation, start, act)
    if (failure !== undefined) {
      derivation.failure = failure
      derivation.emissions = []
      derivation.effects = []
    }
    derivation.changes = this.recordContext.changes(start)
    for (const emission of derivation.emissions) {
      ;(this.recordContext.isHere(emission.key) ? this.#staying : this.#result.outgoing).push(emission)
    }
  }

  /** Derives the events that stay in the partition, and the events that follow from them. */
  #deriveStaying(): void {
    const staying = this.#staying
    for (let i = 0; i < staying.length; i++) {
      const { type, key, data, origin, chain } = staying[i]!
      const derivation = this.#begin('event', type, key, chain)
      this.#attempt(derivation, () => {
        // System messages follow from messages of the app, and their chains are finite.
        if (!isSystemMessage(type) && ++this.#followed > eventsPerRootMax) throw endless(type)
        this.#react(derivation, data, origin)
      })
    }
    if (staying.length > 0) this.#staying = []
    this.#followed = 0
  }

  #react(derivation: Derivation, data: unknown, origin: Origin, time = this.recordContext.time): void {
    const { type } = derivation
    if (isSystemMessage(type)) {
      const decision = this.#claims.message(derivation, data, origin, time)
      if (decision !== undefined) this.#result.decisions.push(decision)
      return
    }
    const { app } = this.context.program
    const reaction = app.reactions.get(type)
    if (reaction === undefined) {
      throw unknownMessage(app, this.#app.sourceOf(derivation), 'an event', type)
    }
    this.#app.react(derivation, reaction, data, origin, time)
  }

  /**
   * Decides a request of the app. Returns undefined if it must wait for its claims, or belongs to another
   * partition.
   */
  #decide(derivation: Derivation, record: RequestRecord, origin: Origin): Outcome | undefined {
    const { type, version } = record
    const request = this.#app.request(type, derivation.chain)
    const input = this.#app.inputOf(request, version, record.output ?? record.input, derivation.chain)
    derivation.key = this.#app.keyOf(request, input)
    if (!this.recordContext.isHere(derivation.key)) {
      this.#result.moved.push({ record, key: derivation.key })
      return undefined
    }
    const wanted = this.#app.claimsOf(request, input)
    if (wanted.length === 0) return this.#app.decide(derivation, request, input, origin)
    return this.#claims.request(derivation, request, record, input, wanted, origin)
  }

  #decideAsOperator(derivation: Derivation, record: RequestRecord, origin: Origin): Outcome {
    const { type, version } = record
    if (version !== 1) throw unknownVersion(this.#app.sourceOf(derivation), 'a request', type, version, 1)
    const request = operatorRequests.get(type)!
    const input = JSON.parse(record.output ?? record.input) as never
    derivation.key = request.key(input)
    const emissions: Emission[] = []
    const turn = new HostTurn(this.context, derivation.key, this.#app.facts(derivation), origin, emissions)
    const { outcome, effects = [] } = request.decide(turn, this.context.outbox, input)
    if (outcome.status !== 'accepted') return outcome
    derivation.emissions = emissions
    derivation.effects = effects
    return outcome
  }
}

function emptyResult(): StepResult {
  return { derivations: [], outgoing: [], decisions: [], moved: [] }
}

function chainOf({ identity, rootPartition, rootOffset }: Chain): Chain {
  return { identity, rootPartition, rootOffset }
}

function endless(type: string): HenceError {
  return new HenceError(
    'too-many-events',
    'change',
    `"${type}" comes after ${eventsPerRootMax} others that follow from one record in its partition: do reactions emit each other without end?`,
  )
}
