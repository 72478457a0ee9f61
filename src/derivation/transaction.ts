import {
  type Constraint,
  type Effect,
  type EmitOptions,
  type Event,
  HenceError,
  type Query,
  type Row,
  type Table,
  type Tx,
} from '../app/index.ts'
import type { KeyPart } from '../app/table.ts'
import { confirmHeld, isWaiting, releaseHeld } from '../constraint/holder.ts'
import { changeLimit, settle } from '../constraint/judge.ts'
import { decideOpen } from '../constraint/review.ts'
import { usageShown } from '../constraint/tables.ts'
import { usageOf } from '../constraint/usage.ts'
import type { EffectRow } from '../effect/outbox.ts'
import { changeError } from '../failure.ts'
import { identityOf, principalOf, requestIdOf } from '../identity.ts'
import { checkKeyLength, checkPartitionKey, encodeKey, encodePart } from '../state/keys.ts'
import { chainDepthMax, type Emission, emissionsMax, Origin, tooMany } from './chain.ts'
import { checkRow } from './check.ts'
import { constraintNamed, type DerivationContext, type Rows } from './context.ts'
import { childOf, type Facts, HostTurn, hexOf, tooDeep } from './host-turn.ts'
import { eventId, namedUuid, RandomStream } from './seed.ts'

/** The `tx` of one derivation; the public interface `Tx` documents each method. */
export class Transaction implements Tx {
  readonly key: string
  readonly emissions: Emission[] = []
  /** The ids of the effects that it asked for. */
  readonly effects: string[] = []
  readonly #context: DerivationContext
  readonly #scope: string
  readonly #facts: Facts
  readonly #origin: Origin
  readonly #prefix: string
  #lastKey = ''
  #ended = false
  #random: RandomStream | undefined
  #turn: HostTurn | undefined
  #counts: Map<Event | Effect, number> | undefined
  #names: Set<string> | undefined

  constructor(context: DerivationContext, scope: string, key: string, facts: Facts, origin: Origin) {
    this.#context = context
    this.#scope = scope
    this.key = key
    this.#facts = facts
    this.#origin = origin
    this.#prefix = encodeKey([key])
  }

  get requestId(): string {
    return requestIdOf(this.#facts.chain.identity)
  }

  get principal(): string {
    return principalOf(this.#facts.chain.identity)
  }

  get now(): number {
    return this.#facts.time
  }

  get(table: Table, ...parts: KeyPart[]): never {
    const { deriving } = this.#context.program
    const state = this.#state(table)
    // Like `#outside`, without creating a function for each of the many reads.
    deriving.active = false
    try {
      return state.get(this.#rowKey(table, parts)) as never
    } catch (error) {
      throw this.#faulty(error)
    } finally {
      deriving.active = true
    }
  }

  put(table: Table, ...partsThenValue: unknown[]): void {
    const state = this.#state(table)
    const { realm } = this.#context.program
    const row = realm.seal(partsThenValue.pop())
    const bytes = realm.sealedBytes()
    const key = this.#rowKey(table, partsThenValue as KeyPart[])
    if (typeof row !== 'object' || row === null) {
      throw changeError('row-invalid', `A row of table "${table.name}" must be an object or a list.`)
    }
    const { checked, program } = this.#context
    if (checked) checkRow(`row of table "${table.name}"`, table.value, row)
    program.deriving.active = false
    try {
      state.put(key, row, false, bytes)
    } catch (error) {
      throw this.#faulty(error)
    } finally {
      program.deriving.active = true
    }
  }

  delete(table: Table, ...parts: KeyPart[]): boolean {
    const state = this.#state(table)
    return this.#outside(() => state.delete(this.#rowKey(table, parts)))
  }

  scan(table: Table, query: Query = {}): Row<never, never>[] {
    const state = this.#state(table)
    const rows = this.#outside(() => state.scan(query, this.#prefix))
    return this.#context.program.realm.rows(rows) as never
  }

  emit(event: Event, data: unknown, options?: EmitOptions): void {
    const [sealed, key] = this.#eventData(event, data)
    const name = options?.key === undefined ? this.#ordinal(event) : this.#uniqueName(event, options.key)
    this.#emit(event, sealed, key, () => eventId(this.#origin.seed, event.name, name))
  }

  #emit(event: Event, data: unknown, key: string, seed: () => string): void {
    if (this.emissions.length >= emissionsMax) throw tooMany('events')
    const { name: type, version } = event
    const origin = childOf(this.#origin, type, seed)
    this.emissions.push({ type, version, key, data, origin, chain: this.#facts.chain })
  }

  /** Emits an event for each claim that a settling released. Its id is that of the settling and the claim. */
  emitSettled(event: Event, id: string, gone: ReturnType<typeof settle>['gone']): void {
    for (const claim of gone) {
      const [data, key] = this.#eventData(event, claim)
      const name = identityOf(claim.requestId, claim.principal)
      this.#emit(event, data, key, () => eventId(id, event.name, name))
    }
  }

  effect(effect: Effect, input: unknown, options?: EmitOptions): string {
    this.#assertOpen()
    const { app, realm } = this.#context.program
    if (!effect || app.effects.get(effect.name) !== effect) {
      throw changeError(
        'unknown-definition',
        `The effect "${effect?.name}" is not one of the app's: list it under \`effects\`.`,
      )
    }
    if (this.effects.length >= emissionsMax) throw tooMany('effects')
    const sealed = realm.seal(input)
    if (this.#context.checked) checkRow(`input of effect "${effect.name}"`, effect.input, sealed)
    const name = options?.key === undefined ? this.#ordinal(effect) : this.#uniqueName(effect, options.key)
    const { chain, time } = this.#facts
    const row: EffectRow = {
      ...chain,
      type: effect.name,
      input: JSON.stringify(sealed),
      state: 'pending',
      at: time,
      scope: this.#scope,
      key: this.key,
      depth: this.#origin.depth,
    }
    const id = namedUuid(this.#origin.seed, `effect ${effect.name}`, name)
    this.#outside(() => this.#context.outbox.add(id, row))
    this.effects.push(id)
    return id
  }

  schedule(event: Event, data: unknown, { at, key: name = '' }: { at: number; key?: string }): void {
    const [sealed, key] = this.#eventData(event, data)
    if (event.scope !== this.#scope || key !== this.key) {
      throw changeError(
        'scope-crossed',
        `The timer "${event.name}" is for ${JSON.stringify(key)} of scope "${event.scope}", and this is ` +
          `${JSON.stringify(this.key)} of scope "${this.#scope}". A timer belongs to the key that sets ` +
          'it: emit an event there.',
      )
    }
    if (!Number.isSafeInteger(at) || at < 0) {
      throw changeError(
        'key-invalid',
        `The timer "${event.name}" is set to ${at}; a time is a whole number of milliseconds since 1970.`,
      )
    }
    const { chain, partition, time } = this.#facts
    // Time ends a chain: a timer that sets itself again for a later time is no loop; for the same time it is.
    const parent = at > time ? new Origin(0, () => this.#origin.seed) : this.#origin
    const origin = childOf(parent, event.name, () => eventId(parent.seed, `timer ${event.name}`, name))
    const timer = {
      ...chain,
      at: Math.max(at, time),
      partition,
      version: event.version,
      data: JSON.stringify(sealed),
      id: hexOf(origin.seed),
      depth: origin.depth,
    }
    this.#outside(() => this.#context.timers.set(this.#timerName(event, name), timer))
  }

  cancel(event: Event, { key: name = '' }: { key?: string } = {}): boolean {
    this.#assertOpen()
    return this.#outside(() => this.#context.timers.cancel(this.#timerName(event, name)))
  }

  usage(constraint: Constraint): ReturnType<Tx['usage']> {
    const usage = this.#judging(constraint, (turn) => usageShown(constraint, usageOf(turn, constraint)))
    return this.#context.program.realm.seal(usage) as ReturnType<Tx['usage']>
  }

  setLimit(constraint: Constraint, limit: number): void {
    this.#changeLimit(constraint, { set: limit })
  }

  adjustLimit(constraint: Constraint, by: number): void {
    this.#changeLimit(constraint, { by })
  }

  /** A limit that changes serves and displaces claims, so `served` and `queued` could change it without end. */
  #changeLimit(constraint: Constraint, change: Parameters<typeof changeLimit>[2]): void {
    if (this.#origin.depth > chainDepthMax)
      throw tooDeep(`The change of the limit of "${constraint.name}"`, this.#origin)
    this.#judging(constraint, (turn) => changeLimit(turn, constraint, change))
  }

  settle(constraint: Constraint, event?: Event): number {
    if (event !== undefined) this.#checkEvent(event)
    const { id, units, gone } = this.#judging(constraint, (turn) => settle(turn, constraint, event?.name))
    if (event !== undefined) this.emitSettled(event, id, gone)
    return units
  }

  release(constraint: Constraint, key?: string, units?: number): number {
    constraintNamed(this.#context, constraint.name)
    return this.#withTurn((turn) => releaseHeld(turn, this.#scope, constraint.name, key, units))
  }

  confirm(constraint: Constraint, key?: string): number {
    constraintNamed(this.#context, constraint.name)
    return this.#withTurn((turn) => confirmHeld(turn, this.#scope, constraint.name, key))
  }

  waits(constraint: Constraint, key?: string): boolean {
    constraintNamed(this.#context, constraint.name)
    return this.#withTurn((turn) => isWaiting(turn, this.#scope, constraint.name, key))
  }

  random(): number {
    return this.#stream().number()
  }

  uuid(): string {
    return this.#stream().uuid()
  }

  /** Call this when the derivation has returned; a `tx` that leaked out of it must not change anything. */
  end(): void {
    const turn = this.#turn
    if (turn !== undefined && turn.undecided.size > 0) {
      this.#outside(() => {
        for (const id of turn.undecided) decideOpen(turn, id)
      })
    }
    this.#ended = true
  }

  /** Calls Hence's own code, which may read a clock: the guards are off meanwhile. */
  #outside<T>(act: () => T): T {
    const { deriving } = this.#context.program
    deriving.active = false
    try {
      return act()
    } catch (error) {
      throw this.#faulty(error)
    } finally {
      deriving.active = true
    }
  }

  /** The app may catch the error and go on, though its result would not follow from the tables. */
  #faulty(error: unknown): unknown {
    if (error instanceof HenceError && error.advice !== 'change') this.#context.program.deriving.fault = error
    return error
  }

  #withTurn<T>(act: (turn: HostTurn) => T): T {
    this.#assertOpen()
    this.#turn ??= new HostTurn(this.#context, this.key, this.#facts, this.#origin, this.emissions)
    const turn = this.#turn
    return this.#outside(() => act(turn))
  }

  #judging<T>(constraint: Constraint, act: (turn: HostTurn) => T): T {
    const { name, scope } = constraintNamed(this.#context, constraint.name)
    if (scope !== this.#scope) {
      throw changeError(
        'scope-crossed',
        `A derivation of scope "${this.#scope}" used the constraint "${name}" of scope "${scope}", which ` +
          'is judged under its own keys. Claim it by a request, or emit an event to that scope.',
      )
    }
    if (this.#facts.waited) {
      const error = changeError(
        'judge-while-claiming',
        `A request with strict claims used the constraint "${name}", which is judged under its own key ` +
          `${JSON.stringify(this.key)}. The judge goes on while the request waits for its claims: emit an ` +
          'event to the same key, and use the constraint there.',
      )
      this.#context.program.deriving.slip ??= error
      throw error
    }
    return this.#withTurn(act)
  }

  #timerName({ scope, name: event }: Event, name: string) {
    return { key: this.key, scope, event, name }
  }

  #checkEvent(event: Event): void {
    this.#assertOpen()
    const { app } = this.#context.program
    if (event && app.events.get(event.name) === event) return
    throw changeError(
      'unknown-definition',
      `The event "${event?.name}" has no reaction in the app "${app.name}": list one under \`reactions\`.`,
    )
  }

  /** The data of an event as it is stored, and its partition key. */
  #eventData(event: Event, data: unknown): [sealed: unknown, key: string] {
    this.#checkEvent(event)
    const sealed = this.#context.program.realm.seal(data)
    if (this.#context.checked) checkRow(`data of event "${event.name}"`, event.data, sealed)
    const key = event.key(sealed)
    checkPartitionKey(key, `event "${event.name}"`)
    return [sealed, key]
  }

  #stream(): RandomStream {
    this.#assertOpen()
    this.#random ??= new RandomStream(this.#origin.seed)
    return this.#random
  }

  #state(table: Table): Rows {
    this.#assertOpen()
    const state = this.#context.tables.get(table)
    if (state === undefined) {
      throw changeError(
        'unknown-definition',
        `The table "${table?.name}" is not one of the app's: list it under \`tables\`.`,
      )
    }
    if (table.scope !== this.#scope) {
      throw changeError(
        'scope-crossed',
        `A derivation of scope "${this.#scope}" used table "${table.name}" of scope "${table.scope}". ` +
          'It reaches only rows under its own partition key: emit an event to the other scope instead.',
      )
    }
    return state
  }

  #rowKey(table: Table, parts: readonly KeyPart[]): string {
    const kinds = table.parts
    let fits = parts.length === kinds.length
    for (let i = 0; fits && i < kinds.length; i++) fits = typeof parts[i] === kinds[i]
    if (!fits) {
      throw changeError(
        'key-invalid',
        `A row of table "${table.name}" is named by [${kinds.join(', ')}] after its partition key, not by ` +
          `${JSON.stringify(parts)}.`,
      )
    }
    if (kinds.length === 0) return this.#prefix
    let key = this.#prefix
    for (let i = 0; i < parts.length; i++) key += encodePart(parts[i]!)
    // Most rows are read before they are put. Reusing the string saves hashing it again.
    if (key === this.#lastKey) return this.#lastKey
    this.#lastKey = checkKeyLength(key)
    return key
  }

  #ordinal(event: Event | Effect): number {
    this.#counts ??= new Map()
    const count = this.#counts.get(event) ?? 0
    this.#counts.set(event, count + 1)
    return count
  }

  #uniqueName(event: Event | Effect, key: string): string {
    // In plain JavaScript it may be anything, and two texts with half a surrogate pair have the same bytes.
    if (typeof key !== 'string' || !key.isWellFormed()) {
      throw changeError(
        'key-invalid',
        `The key of ${event.kind} "${event.name}" must be text without half a surrogate pair, not ` +
          `${JSON.stringify(key)}.`,
      )
    }
    this.#names ??= new Set()
    const name = `${event.kind}\0${event.name}\0${key}`
    if (this.#names.has(name)) {
      throw changeError(
        'event-key-reused',
        `Two ${event.kind}s "${event.name}" of one derivation have the key ${JSON.stringify(key)}: give ` +
          'each its own key.',
      )
    }
    this.#names.add(name)
    return key
  }

  #assertOpen(): void {
    if (!this.#ended) return
    throw changeError(
      'transaction-ended',
      'A `tx` was used after its derivation returned. Derivations are synchronous, and keep nothing of `tx`.',
    )
  }
}
