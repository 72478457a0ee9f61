import type { Outcome } from '../app/index.ts'
import type { RequestRecord } from '../log/record.ts'
import { interrupted } from '../sandbox/timed.ts'
import type { AppCode } from './app-code.ts'
import type { Origin } from './chain.ts'
import type { ClaimMessages } from './claim-messages.ts'
import { HostTurn } from './host-turn.ts'
import { operatorRequests } from './operator.ts'
import type { Derivation } from './step-result.ts'
import { unknownVersion } from './upcast.ts'

/** `moved`: to another partition, by this code. `parked`: its key waits. Undefined: its claims wait. */
type NextStep = Outcome | 'moved' | 'parked' | undefined

/** Decides requests, those of the app and those of operators. */
export class RequestDecider {
  readonly #app: AppCode
  readonly #claims: ClaimMessages
  readonly #mustWait: (key: string, type: string) => boolean

  constructor(app: AppCode, claims: ClaimMessages, mustWait: (key: string, type: string) => boolean) {
    this.#app = app
    this.#claims = claims
    this.#mustWait = mustWait
  }

  /** @param isNew whether it comes from the log, and may have to be moved or parked first */
  decide(derivation: Derivation, record: RequestRecord, origin: Origin, isNew: boolean): NextStep {
    if (operatorRequests.has(record.type)) return this.#decideAsOperator(derivation, record, origin, isNew)
    const { type, version, parsed } = record
    const request = this.#app.request(type, derivation.chain)
    const input =
      parsed?.realm === this.#app.context.program.realm && version === request.version
        ? parsed.value
        : this.#app.inputOf(request, version, record.output ?? record.input, derivation.chain)
    const key = this.#app.keyOf(request, input)
    derivation.key = key
    const { begins, underWay } = this.#app.recordContext
    // Again, now that its key is known: the process may die in what follows.
    begins?.(interrupted(derivation, underWay!.n))
    if (isNew && !this.#app.recordContext.isHere(key)) return 'moved'
    if (isNew && this.#mustWait(key, type)) return 'parked'
    const wanted = this.#app.claimsOf(request, input)
    if (wanted.length > 0) return this.#claims.request(derivation, request, record, input, wanted, origin)
    return this.#app.decide(derivation, request, input, origin)
  }

  #decideAsOperator(derivation: Derivation, record: RequestRecord, origin: Origin, isNew: boolean): NextStep {
    const { type, version } = record
    if (version !== 1) throw unknownVersion(this.#app.sourceOf(derivation), 'a request', type, version, 1)
    const request = operatorRequests.get(type)!
    const input = JSON.parse(record.output ?? record.input) as never
    const key = request.key(input)
    derivation.key = key
    if (isNew && this.#mustWait(key, type)) return 'parked'
    const turn = new HostTurn(this.#app.context, key, this.#app.facts(derivation), origin)
    const { outcome, effects = [] } = request.decide(turn, this.#app.context.outbox, input)
    if (outcome.status !== 'accepted') return outcome
    derivation.emissions = turn.emissions
    derivation.effects = effects
    return outcome
  }
}
