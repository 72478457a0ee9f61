import type { Claim, Outcome, Request } from '../app/index.ts'
import {
  ask,
  claimsInOrder,
  dropClaim,
  giveBack,
  hold,
  holderOf,
  inputOf,
  keepInput,
  setHolder,
  without,
} from '../constraint/holder.ts'
import { settleNext } from '../constraint/judge.ts'
import { judges } from '../constraint/judges.ts'
import type { ClaimHolder, HeldClaim } from '../constraint/tables.ts'
import type { Messages } from '../constraint/turn.ts'
import type { RequestRecord } from '../log/record.ts'
import { type AppCode, type ClaimHook, unknownMessage } from './app-code.ts'
import { type Chain, Origin } from './chain.ts'
import { HostTurn } from './host-turn.ts'
import { requestSeed } from './seed.ts'
import type { Decision, Derivation } from './step-result.ts'

/**
 * Derives the system messages between a request that claims something and the keys that judge its claims.
 *
 *   request's key ── claim, release, confirm ──► judged key      see `constraint/judge.ts`
 *   request's key ◄── verdict, lapse, compensate ── judged key   see `constraint/holder.ts`
 */
export class ClaimMessages {
  readonly #app: AppCode
  /** The request that asked last: its verdict mostly comes in the same step. */
  #asking: { readonly identity: string; readonly input: unknown } | undefined

  constructor(app: AppCode) {
    this.#app = app
  }

  /**
   * Takes a request that claims something: asks for its first strict claim, or, if all are loose, decides it
   * and asks for them if it was accepted.
   * @returns undefined while the request waits for verdicts
   */
  request(
    derivation: Derivation,
    request: Request,
    { version, input: sent, output }: RequestRecord,
    input: unknown,
    wanted: readonly Claim[],
    origin: Origin,
  ): Outcome | undefined {
    const { scope } = request
    const { identity, rootPartition, rootOffset } = derivation.chain
    const turn = this.#turn(derivation, origin)
    const { emissions } = turn
    const claims = claimsInOrder(turn, scope, wanted)
    const root = { rootPartition, rootOffset, at: derivation.at }
    const holder = { type: request.name, version, ...root, claims, granted: 0 }
    if (claims[0]!.strict) {
      keepInput(turn, root, output ?? sent)
      setHolder(turn, scope, identity, { ...holder, state: 'asking' })
      ask(turn, scope, identity, claims[0]!)
      derivation.emissions = emissions
      this.#asking = { identity, input }
      return undefined
    }
    const outcome = this.#app.decide(derivation, request, input, origin)
    if (outcome.status === 'accepted') {
      keepInput(turn, root, output ?? sent)
      hold(turn, scope, identity, holder)
      derivation.emissions = [...derivation.emissions, ...emissions]
    }
    return outcome
  }

  /**
   * Derives one system message.
   * @returns the decision about a request, if the message led to one
   */
  message(derivation: Derivation, data: unknown, origin: Origin): Decision | undefined {
    const type = derivation.type as keyof Messages
    // A verdict resumes the request itself: its chain starts anew, and what follows has the same ids however
    // many claims were asked for before.
    const isVerdict = type === 'hence:verdict'
    const { logId } = this.#app.recordContext
    const { identity } = data as Messages['hence:verdict']
    const from = isVerdict ? new Origin(0, () => requestSeed(logId, identity)) : origin
    const turn = this.#turn(derivation, from)
    derivation.emissions = turn.emissions
    if (isVerdict) return this.#verdict(derivation, turn, data as Messages['hence:verdict'])
    if (type === 'hence:compensate')
      return this.#compensate(derivation, turn, data as Messages['hence:compensate'])
    if (type === 'hence:queued' || type === 'hence:served') {
      this.#line(derivation, turn, data as Messages[typeof type])
      return undefined
    }
    if (type === 'hence:lapse') {
      const lapsed = data as Messages['hence:lapse']
      const refusal = this.#refuseIfAsking(turn, lapsed)
      if (refusal === undefined) dropClaim(turn, lapsed.scope, lapsed.identity, lapsed)
      return refusal
    }
    if (type === 'hence:settle') {
      this.#settle(derivation, turn, data as Messages['hence:settle'])
      return undefined
    }
    const judge = judges[type]
    if (judge === undefined) {
      throw unknownMessage(this.#app.context.program.app, this.#app.sourceOf(derivation), 'an event', type)
    }
    judge(turn, data as never)
    return undefined
  }

  #turn(derivation: Derivation, origin: Origin): HostTurn {
    return new HostTurn(this.#app.context, derivation.key, this.#app.facts(derivation), origin)
  }

  /** Claims are released because they are not confirmed: the app may have an event emitted for each. */
  #settle(derivation: Derivation, turn: HostTurn, asked: Messages['hence:settle']): void {
    const gone = settleNext(turn, asked)
    const { event, id } = asked
    if (event === null || gone.length === 0) return
    const emit = () => turn.emissions.push(...this.#app.emitSettled(derivation, event, id, gone, turn.origin))
    derivation.failure = this.#app.attempt(derivation, this.#app.recordContext.mark(), emit, true)
  }

  /** A strict claim was granted or denied: asks for the next one, or decides the request. */
  #verdict(
    derivation: Derivation,
    turn: HostTurn,
    { identity, scope, constraint, key, verdict }: Messages['hence:verdict'],
  ): Decision | undefined {
    const before = holderOf(turn, scope, identity)
    const isDenied = verdict === 'denied' || verdict === 'full'
    if (before === undefined) {
      // The request was refused while this verdict was under way, because it lost a claim granted before.
      if (!isDenied) turn.send('hence:release', key, { constraint, identity })
      return undefined
    }
    const { chain } = derivation
    const lost = { constraint, key, ...(verdict === 'full' && { isFull: true as const }) }
    if (isDenied) return this.#refuse(turn, scope, before, chain, lost)
    const waits = verdict === 'waits'
    const count = before.granted + 1
    const claims = waits ? waiting(before.claims, constraint, key, true) : before.claims
    const holder: ClaimHolder = { ...before, claims, granted: count }
    const next = claims[count]
    if (waits || next?.strict) setHolder(turn, scope, identity, holder)
    if (next?.strict) {
      ask(turn, scope, identity, next)
      return undefined
    }
    const { version = 1, at } = holder
    const request = this.#app.request(holder.type, holder)
    derivation.at = at
    const facts = { ...this.#app.facts(derivation), waited: true as const }
    let outcome: Outcome | undefined
    const decide = () => {
      const input =
        this.#asking?.identity === identity
          ? this.#asking.input
          : this.#app.inputOf(request, version, inputOf(turn, holder), holder)
      outcome = this.#app.decide(derivation, request, input, turn.origin, facts)
    }
    const failure = this.#app.attempt(derivation, this.#app.recordContext.mark(), decide, true)
    if (failure !== undefined) {
      derivation.failure = failure
      derivation.effects = []
      outcome = { status: 'failed', ...failure }
    }
    if (outcome!.status === 'accepted') {
      turn.emissions.unshift(...derivation.emissions)
      hold(turn, scope, identity, holder)
    } else {
      giveBack(turn, identity, claims.slice(0, count))
      setHolder(turn, scope, identity, undefined)
    }
    derivation.emissions = turn.emissions
    return { chain, outcome }
  }

  /** Refuses a request that waits for verdicts, and releases the claims it was granted. */
  #refuse(
    turn: HostTurn,
    scope: string,
    holder: ClaimHolder,
    chain: Chain,
    lost: { readonly constraint: string; readonly key: string; readonly isFull?: true },
  ): Decision {
    const { constraint, key, isFull } = lost
    const granted = holder.claims.slice(0, holder.granted)
    giveBack(turn, chain.identity, without(granted, constraint, key))
    setHolder(turn, scope, chain.identity, undefined)
    const details = { key, ...(isFull && { waitingList: 'full' }) }
    return { chain, outcome: { status: 'rejected', reason: constraint, details } }
  }

  /** A request that loses a claim before it is decided is refused; there is nothing to compensate. */
  #refuseIfAsking(
    turn: HostTurn,
    lost: Pick<Messages['hence:lapse'], 'identity' | 'scope' | 'constraint' | 'key'>,
  ): Decision | undefined {
    const { identity, scope } = lost
    const holder = holderOf(turn, scope, identity)
    if (holder?.state !== 'asking') return undefined
    const { rootPartition, rootOffset } = holder
    return this.#refuse(turn, scope, holder, { identity, rootPartition, rootOffset }, lost)
  }

  #line(
    derivation: Derivation,
    turn: HostTurn,
    message: Messages['hence:queued'] | Messages['hence:served'],
  ): void {
    const { identity, scope, holder: _, ...cause } = message
    const { constraint, key } = cause
    const holder = holderOf(turn, scope, identity)
    if (holder === undefined || !holds(holder.claims, constraint, key)) return
    const hook = derivation.type === 'hence:queued' ? 'queued' : 'served'
    const claims = waiting(holder.claims, constraint, key, hook === 'queued')
    setHolder(turn, scope, identity, { ...holder, claims })
    if ('violation' in message && message.violation !== null) {
      const { rootPartition, rootOffset } = holder
      derivation.chain = { identity, rootPartition, rootOffset }
      derivation.violation = message.violation
    }
    if (holder.state === 'standing')
      this.#notify(derivation, turn, identity, holder, inputOf(turn, holder), hook, cause)
  }

  /** Runs a function of the app for a request; if it throws, what else is derived stays. */
  #notify(
    derivation: Derivation,
    { emissions, origin }: HostTurn,
    identity: string,
    holder: ClaimHolder,
    sent: string,
    hook: ClaimHook,
    cause: object,
  ): void {
    const { type, version = 1, rootPartition, rootOffset } = holder
    const request = this.#app.request(type, holder)
    const chain: Chain = { identity, rootPartition, rootOffset }
    const notify = () => {
      if (request[hook] !== undefined) {
        const input = this.#app.inputOf(request, version, sent, holder)
        const done = this.#app.notify(derivation, request, hook, chain, input, cause, origin)
        emissions.push(...done.emissions)
        derivation.effects = done.effects
      }
      // From here on the derivation belongs to the story of that request.
      derivation.chain = chain
    }
    const failure = this.#app.attempt(derivation, this.#app.recordContext.mark(), notify, true)
    if (failure !== undefined) derivation.failure = failure
  }

  /** A request must give way: its app compensates, and its other claims are released. */
  #compensate(
    derivation: Derivation,
    turn: HostTurn,
    lost: Messages['hence:compensate'],
  ): Decision | undefined {
    const { identity, scope, constraint, key, violation, victim } = lost
    const answer = (how: 'compensated' | 'released' | 'failed') => {
      if (violation !== null && victim !== undefined)
        turn.send('hence:compensated', key, { violation, victim, how })
    }
    const holder = holderOf(turn, scope, identity)
    const refusal = this.#refuseIfAsking(turn, lost)
    if (refusal !== undefined || holder === undefined || !holds(holder.claims, constraint, key)) {
      answer('released')
      return refusal
    }
    const sent = inputOf(turn, holder)
    giveBack(turn, identity, without(holder.claims, constraint, key))
    setHolder(turn, scope, identity, undefined)
    const cause = { violation, constraint, key }
    this.#notify(derivation, turn, identity, holder, sent, 'compensate', cause)
    answer(derivation.failure === undefined ? 'compensated' : 'failed')
    return undefined
  }
}

/** The claims of a request, of which one waits or waits no longer. */
function waiting(claims: readonly HeldClaim[], constraint: string, key: string, waits: boolean): HeldClaim[] {
  return claims.map((claim) => {
    if (claim.constraint !== constraint || claim.key !== key) return claim
    const { waiting: _, ...rest } = claim
    return waits ? { ...rest, waiting: true } : rest
  })
}

function holds(claims: readonly HeldClaim[], constraint: string, key: string): boolean {
  return claims.some((each) => each.constraint === constraint && each.key === key)
}
