import {
  type App,
  type Claim,
  HenceError,
  type Outcome,
  type Reaction,
  type Request,
  type SettledClaim,
} from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { isRejection } from '../app/outcome.ts'
import { changeError, operatorError, shown } from '../failure.ts'
import { everyKind } from '../log/record.ts'
import { rejectionNotReturned } from '../sandbox/from-outside.ts'
import { mainRealm } from '../sandbox/realm.ts'
import type { Deriving } from '../sandbox/realm-language.ts'
import { assertSynchronous } from '../sandbox/synchronous.ts'
import { elapsedMs, Interruption, interrupted, isStackOverflow } from '../sandbox/timed.ts'
import { checkPartitionKey } from '../state/keys.ts'
import type { Chain, Emission, Origin } from './chain.ts'
import type { DerivationContext, RecordContext } from './context.ts'
import type { Facts } from './host-turn.ts'
import type { Derivation, Failure } from './step-result.ts'
import { Transaction } from './transaction.ts'
import { unknownVersion, upcast } from './upcast.ts'

/** Calls the app's code for one derivation: with the guards of its realm on, and undone if it throws. */
export class AppCode {
  readonly context: DerivationContext
  readonly recordContext: RecordContext

  constructor(context: DerivationContext, recordContext: RecordContext) {
    this.context = context
    this.recordContext = recordContext
  }

  /**
   * Runs a part of a derivation. If it throws, the changes of state since `start` are undone. A part that was
   * ruled on does not run, and counts as one that threw.
   * @param isApps whether it runs the app's code, and not only Hence's own: only then is there a limit
   * @returns why it threw; undefined if it did not
   * @throws Interruption; and anything that is not the app's own fault, such as HenceError `state-unreadable`
   *   (operator)
   */
  attempt(
    derivation: Derivation,
    start: number,
    act: () => void,
    isApps = !isSystemMessage(derivation.type),
  ): Failure | undefined {
    const record = this.recordContext
    const n = record.attempts++
    if (record.rulings.length > 0 && isApps) {
      const ruling = record.rulings.find((each) =>
        each.n === undefined ? [derivation.kind, everyKind].includes(each.kind) : each.n === n,
      )
      if (ruling !== undefined) {
        const { code, message, key } = ruling
        // That of a request is not derived.
        derivation.key ||= key
        return { code, message }
      }
    }
    const isWatched = record.isWatched && isApps
    const { deriving } = this.context.program
    deriving.slip = undefined
    deriving.bufferBytes = 0
    try {
      if (isWatched) {
        record.begins?.(interrupted(derivation, n))
        // The key of a request is known only later.
        record.underWay = { n, derivation, since: elapsedMs() }
      }
      act()
      this.#throwFault()
      return undefined
    } catch (error) {
      if (error instanceof Interruption) throw error
      if (isStackOverflow(error)) throw new Interruption('derivation-too-deep', interrupted(derivation, n))
      const failure = this.#failureOf(error)
      this.#undo(start)
      return failure
    } finally {
      deriving.bufferBytes = undefined
      // An interruption leaves it under way, also while the app's error says its message.
      if (isWatched && record.underWay !== undefined) {
        record.longestMs = Math.max(record.longestMs, elapsedMs() - record.underWay.since)
        record.underWay = undefined
      }
    }
  }

  /** The data of an event, in the version that the app knows. */
  dataOf(derivation: Derivation, version: number, data: string): unknown {
    const { type } = derivation
    if (isSystemMessage(type)) {
      if (version !== 1) throw unknownVersion(this.sourceOf(derivation), 'an event', type, version, 1)
      // Hence's own code reads it, so it belongs to the main realm.
      return JSON.parse(data)
    }
    const { app, realm } = this.context.program
    const event = app.events.get(type)
    if (event === undefined) throw unknownMessage(app, this.sourceOf(derivation), 'an event', type)
    if (version === event.version) return realm.parseFrozen(data)
    return upcast(this.context, event, version, data, this.sourceOf(derivation))
  }

  inputOf(request: Request, version: number, text: string, { rootPartition, rootOffset }: Root): unknown {
    if (version === request.version) return this.context.program.realm.parseFrozen(text)
    return upcast(this.context, request, version, text, `Record ${rootPartition}:${rootOffset}`)
  }

  /** Names the record that a message comes from, for errors; for a timer, the request that it follows from. */
  sourceOf({ kind, chain }: Derivation): string {
    const { partition, offset } = this.recordContext
    const root = `${chain.rootPartition}:${chain.rootOffset}`
    if (kind === 'timer') return `A timer that follows from record ${root}`
    return `Record ${kind === 'request' ? root : `${partition}:${offset}`}`
  }

  request(type: string, { rootPartition, rootOffset }: Root): Request {
    const { app } = this.context.program
    const request = app.requests.get(type)
    if (request !== undefined) return request
    throw unknownMessage(app, `Record ${rootPartition}:${rootOffset}`, 'a request', type)
  }

  /** The partition key of a request, as the app computes it from the input. */
  keyOf(request: Request, input: unknown): string {
    return this.#guarded(() => {
      const key = request.key(input)
      checkPartitionKey(key, `request "${request.name}"`)
      return key
    })
  }

  claimsOf(request: Request, input: unknown): readonly Claim[] {
    if (request.claims === undefined) return none
    return this.#guarded(() => request.claims!(input))
  }

  react(derivation: Derivation, reaction: Reaction, data: unknown, origin: Origin): void {
    const tx = this.#transaction(reaction.scope, derivation.key, this.facts(derivation), origin)
    this.#run(tx, () => reaction.react(tx, data))
    derivation.emissions = tx.emissions
    derivation.effects = tx.effects
  }

  /** The events that the app asked for, one for each claim that a settling released. */
  emitSettled(
    derivation: Derivation,
    name: string,
    id: string,
    gone: readonly SettledClaim[],
    origin: Origin,
  ): readonly Emission[] {
    const { app } = this.context.program
    const event = app.events.get(name)
    if (event === undefined) throw unknownMessage(app, this.sourceOf(derivation), 'an event', name)
    const tx = this.#transaction(event.scope, derivation.key, this.facts(derivation), origin)
    this.#run(tx, () => tx.emitSettled(event, id, gone))
    return tx.emissions
  }

  /** Decides a request. If the app rejects it, the changes of state are undone. */
  decide(
    derivation: Derivation,
    request: Request,
    input: unknown,
    origin: Origin,
    facts = this.facts(derivation),
  ): Outcome {
    const { deriving } = this.context.program
    const start = this.recordContext.mark()
    const tx = this.#transaction(request.scope, derivation.key, facts, origin)
    deriving.active = true
    const result = request.derive(tx, input)
    tx.end()
    assertSynchronous(result)
    throwSlip(deriving, result)
    if (isRejection(result)) {
      deriving.active = false
      this.#undo(start)
      const { reason, details } = result
      if (typeof reason !== 'string') throw changeError('not-json', 'The reason of a rejection must be text.')
      if (reason.length > reasonMax || !reason.isWellFormed())
        throw changeError(
          'value-too-large',
          `The reason of a rejection has ${reason.length} characters, or half a surrogate pair; at most ` +
            `${reasonMax} are stored. Put the rest in its details.`,
        )
      if (details === undefined) return { status: 'rejected', reason }
      return { status: 'rejected', reason, details: mainRealm.seal(details) as never }
    }
    const value = mainRealm.seal(result ?? null) as never
    deriving.active = false
    derivation.emissions = tx.emissions
    derivation.effects = tx.effects
    return { status: 'accepted', value }
  }

  /** Notifies a request that a claim of it was lost, waits or was served; the request is that of the chain. */
  notify(
    derivation: Derivation,
    request: Request,
    hook: ClaimHook,
    chain: Chain,
    input: unknown,
    cause: object,
    origin: Origin,
  ): Pick<Transaction, 'emissions' | 'effects'> {
    const { realm } = this.context.program
    const facts = { ...this.facts(derivation), chain }
    const tx = this.#transaction(request.scope, derivation.key, facts, origin)
    this.#run(tx, () => request[hook]?.(tx, input, realm.seal(cause) as never))
    return tx
  }

  facts({ chain, at }: Derivation): Facts {
    return { chain, time: at, partition: this.recordContext.partition }
  }

  #transaction(scope: string, key: string, facts: Facts, origin: Origin): Transaction {
    return new Transaction(this.context, scope, key, facts, origin)
  }

  /** Calls a function of the app that uses a transaction and returns nothing. */
  #run(tx: Transaction, act: () => unknown): void {
    this.#guarded(() => {
      const result = act()
      tx.end()
      assertSynchronous(result)
    })
  }

  /** Calls the app's code with the guards of its realm on. If it throws, `#failureOf` turns them off. */
  #guarded<T>(act: () => T): T {
    const { deriving } = this.context.program
    deriving.active = true
    const result = act()
    throwSlip(deriving, undefined)
    deriving.active = false
    return result
  }

  #undo(mark: number): void {
    this.recordContext.undo(mark)
    this.context.timers.forgetNext()
  }

  /** Turns the guards off, and returns why the app's code threw. Throws what is not the app's own fault. */
  #failureOf(error: unknown): Failure {
    const { deriving } = this.context.program
    const { active: isApps, slip } = deriving
    deriving.active = false
    this.#throwFault()
    // Hence's own code runs with the guards off. An error of the app's code is the app's, whatever advice.
    if (error instanceof HenceError && error.advice !== 'change' && !isApps) throw error
    if (isRejection(error)) return describe(rejectionNotReturned(error.reason, 'thrown'))
    // The slip comes first; the error may only be a consequence of it.
    return describe(slip instanceof HenceError ? slip : error)
  }

  #throwFault(): void {
    const { deriving } = this.context.program
    const { fault } = deriving
    deriving.fault = undefined
    if (fault !== undefined) throw fault
  }
}

/** Throws a mistake that the app's code made without throwing, or after catching the error. */
function throwSlip(deriving: Deriving, result: unknown): void {
  const { slip } = deriving
  if (slip === undefined) return
  if (!isRejection(slip)) throw slip
  if (!isRejection(result)) throw rejectionNotReturned(slip.reason, 'made')
}

/** The functions of a request that run when something happens to a claim of it. */
export type ClaimHook = 'compensate' | 'queued' | 'served'

type Root = Pick<Chain, 'rootPartition' | 'rootOffset'>

const none: readonly never[] = []

/** A type that the code does not know is not a failure of the derivation: going on would lose the message. */
export const unknownMessage = (app: App, where: string, what: string, type: string) =>
  operatorError(
    'unknown-message',
    `${where} holds ${what} "${type}", which the app "${app.name}" does not define. ` +
      'Put its definition back; what is in the log must stay readable.',
  )

/** A reason is a word for programs; what a person reads belongs in the details. */
const reasonMax = 1_000
/** How much of the message of an error is stored, in characters: the app may have put its input there. */
const messageMax = 2_000

/** Code and message, never a stack, which differs between engines. */
export function describe(error: unknown): Failure {
  const { code, message } = codeAndMessage(error)
  return { code, message: shown(message.toWellFormed(), messageMax) }
}

function codeAndMessage(error: unknown): Failure {
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
