import assert from 'node:assert/strict'
import type {
  App,
  Effect,
  EffectName,
  EffectNamed,
  Frozen,
  Json,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  TableKey,
  TableName,
  TableValue,
} from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import type { Victim, Violation } from '../constraint/tables.ts'
import { derivationContext, recordContext } from '../derivation/context.ts'
import { deriveTwice } from '../derivation/divergence.ts'
import { inputHash } from '../derivation/early-results.ts'
import { Deriver } from '../derivation/step.ts'
import type { Derivation, StepResult } from '../derivation/step-result.ts'
import type { EffectResult } from '../effect/handlers.ts'
import { type EffectState, effectState, Outbox } from '../effect/outbox.ts'
import { identityOf, senderOf } from '../identity.ts'
import type { LogRecord, RequestRecord } from '../log/record.ts'
import { tablesFor } from '../processor/derived-state.ts'
import { eventOf } from '../processor/event-order.ts'
import { traced } from '../processor/traced.ts'
import { inputOf, messageOf, requestOf } from '../request/message.ts'
import { type AppBundle, type AppSource, bundleApp } from '../sandbox/bundle.ts'
import { type Program, sandboxed, sandboxedViews, type ViewProgram } from '../sandbox/program.ts'
import { encodeKey } from '../state/keys.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import type { TableRow, TableState } from '../state/table.ts'
import { messagesIn } from '../view/feed.ts'
import { ViewFold } from '../view/fold.ts'

/** The sender of a request in a scenario, and the time; all optional. */
export interface SentBy {
  readonly principal?: string
  readonly requestId?: string
  /** Log time, in milliseconds since 1970; it never goes backwards. Default: a second after the one before. */
  readonly at?: number
}

/**
 * Tests derivations without a log, a disk or a clock, by given, when and then. Every record is derived twice
 * and compared, and rows are checked against their schemas. Events are applied in the same step, as on one
 * partition.
 *
 * A reaction that throws fails the scenario, unless `thenReactionFailed` expects it; so does a view.
 * @param views bundles of modules of views, which fold each record after it was derived
 */
export function scenario<A extends App>(app: AppBundle<A>, views?: readonly AppBundle[]): Scenario<A>
export function scenario<A extends App>(app: string | URL, views?: readonly AppBundle[]): Promise<Scenario<A>>
export function scenario<A extends App>(
  app: AppSource<A>,
  views: readonly AppBundle[] = [],
): Scenario<A> | Promise<Scenario<A>> {
  const made = (bundle: AppBundle<A>) => new Scenario<A>(sandboxed(bundle), views.map(sandboxedViews))
  return typeof app === 'object' && 'code' in app ? made(app) : bundleApp<A>(app).then(made)
}

export class Scenario<A extends App> {
  readonly #program: Program
  readonly #state = new State(memoryStore())
  readonly #tables: ReadonlyMap<string, TableState>
  readonly #outbox: Outbox
  #time = Date.UTC(2026, 0, 1)
  #count = 0
  #last: { readonly type: string; readonly step: StepResult } | undefined
  #failuresExpected = 0
  readonly #views = new Map<string, ViewFold>()
  /** The requests so far, by position. */
  readonly #requests = new Map<string, RequestRecord>()

  /** Use `scenario`. */
  constructor(program: Program, modules: readonly ViewProgram[] = []) {
    this.#program = program
    for (const module of modules)
      for (const name of module.views.keys()) this.#views.set(name, ViewFold.inMemory(module, name))
    this.#tables = tablesFor(program, this.#state)
    this.#outbox = new Outbox(this.#tables.get('hence.effects')!)
  }

  /** Applies a request, which must be accepted. */
  given<N extends RequestName<A>>(type: N, input: RequestInput<A, N>, by?: SentBy): this {
    return this.when(type, input, by).#assertAccepted(type)
  }

  /**
   * Applies a request that an older version of its schema admitted, and that must be accepted. `input` is the
   * output of the older schema; it is upcast before it is derived.
   */
  givenOlder(version: number, type: RequestName<A>, input: Json, by: SentBy = {}): this {
    const sent = { version, input: JSON.stringify(input), output: undefined }
    return this.#request(type, sent, by).#assertAccepted(type)
  }

  /** Applies the request that the following `then…` calls check. */
  when<N extends RequestName<A>>(type: N, input: RequestInput<A, N>, by: SentBy = {}): this {
    const { app, realm } = this.#program
    return this.#request(type, messageOf(requestOf(app, type), inputOf(type, input, realm), realm), by)
  }

  /** Completes the oldest pending effect of a type with a result. `then…` calls check what reactions did. */
  givenResult<N extends EffectName<A>>(
    type: N,
    ...result: null extends EffectResult<EffectNamed<A, N>> ? [] : [EffectResult<EffectNamed<A, N>>]
  ): this {
    const text = JSON.stringify(result[0] ?? null)
    return this.#end(type, { done: true, text })
  }

  /** Gives up the oldest pending effect of a type. */
  givenDead(type: EffectName<A>, error = 'it was refused'): this {
    return this.#end(type, { done: false, text: error })
  }

  /** Advances the time to `at`, in milliseconds since 1970, and fires the timers that are due. */
  whenTime(at: number): this {
    return this.#take('the time', { kind: 'tick' }, at)
  }

  /** Advances the time by some milliseconds. */
  whenTimePasses(ms: number): this {
    return this.whenTime(this.#time + ms)
  }

  /** Checks that the request was accepted, with this value if one is given. */
  thenAccepted<N extends RequestName<A>>(...value: [] | [RequestValue<A, N>]): this {
    const outcome = this.#outcome()
    if (value.length === 0) assert.equal(outcome.status, 'accepted', `it was ${JSON.stringify(outcome)}`)
    else assert.deepEqual(outcome, { status: 'accepted', value: value[0] })
    return this
  }

  /** Checks that the request was rejected for this reason, with these details if they are given. */
  thenRejected<N extends RequestName<A>>(reason: RequestReason<A, N>, ...details: [] | [unknown]): this {
    const outcome = this.#outcome()
    assert.ok(outcome.status === 'rejected', `it was ${JSON.stringify(outcome)}`)
    assert.equal(outcome.reason, reason)
    if (details.length > 0) assert.deepEqual(outcome.details, details[0])
    return this
  }

  /** Checks that the derivation threw; `code` is `derivation-threw` for the app's own errors. */
  thenFailed(code?: string): this {
    const outcome = this.#outcome()
    assert.ok(outcome.status === 'failed', `it was ${JSON.stringify(outcome)}`)
    if (code !== undefined) assert.equal(outcome.code, code, outcome.message)
    return this
  }

  /** Checks that a reaction to an event of this type threw, so that its changes were undone. */
  thenReactionFailed(type: string, code?: string): this {
    const failed = this.#failed().find((each) => each.type === type)
    assert.ok(failed, `no reaction to "${type}" failed`)
    if (code !== undefined) assert.equal(failed.failure!.code, code, failed.failure!.message)
    this.#failuresExpected++
    return this
  }

  /** Checks a row; undefined means that there is none. */
  thenRow<N extends TableName<A>>(
    table: N,
    key: TableKey<A, N>,
    row: Frozen<TableValue<A, N>> | undefined,
  ): this {
    assert.deepEqual(this.row(table, key), row)
    return this
  }

  /** Checks the types of the app's events that were emitted, in order. */
  thenEvents(...types: string[]): this {
    const seen = this.#derivations().flatMap(({ emissions }) => emissions.map(({ type }) => type))
    assert.deepEqual(
      seen.filter((type) => !isSystemMessage(type)),
      types,
    )
    return this
  }

  /** Checks the types of the effects that were requested, in order. */
  thenEffects(...types: EffectName<A>[]): this {
    assert.deepEqual(
      this.#asked().map(({ type }) => type),
      types,
    )
    return this
  }

  /** Checks that exactly one effect of this type was requested, with this input. */
  thenEffect<N extends EffectName<A>>(
    type: N,
    input: EffectNamed<A, N> extends Effect<string, infer I> ? Frozen<I> : never,
  ): this {
    const inputs = this.#asked().flatMap((each) => (each.type === type ? [each.input] : []))
    assert.deepEqual(inputs, [input])
    return this
  }

  /** Checks the units claimed of a constraint at a key. */
  thenClaimed(constraint: string, key: string, units: number): this {
    const row = this.#tables.get('hence.standings')!.get(encodeKey([key, constraint])) as
      | { claimed: number }
      | undefined
    assert.equal(row?.claimed ?? 0, units, `units claimed of "${constraint}" at ${JSON.stringify(key)}`)
    return this
  }

  /** Returns a row, for values that a test cannot know, for example a UUID; undefined if there is none. */
  row<N extends TableName<A>>(table: N, key: TableKey<A, N>): Frozen<TableValue<A, N>> | undefined {
    this.#assertReactionsSeen()
    const state = this.#views.get(table)?.table ?? this.#tables.get(table)
    assert.ok(state, `the app has no table "${table}"`)
    const found = state.get(encodeKey(key))
    return found === undefined ? undefined : JSON.parse(JSON.stringify(found))
  }

  /** Returns all violations so far, oldest first. */
  violations(): (Violation & { readonly victims: readonly Victim[] })[] {
    const victimsOf = (key: TableRow['key']) =>
      this.#tables
        .get('hence.victims')!
        .scan({ prefix: key })
        .map(({ value }) => value as Victim)
    return this.#tables
      .get('hence.violations')!
      .scan({})
      .map(({ key, value }) => ({ ...(value as Violation), victims: victimsOf(key) }))
      .sort((a, b) => a.at - b.at)
  }

  #request(
    type: string,
    { version, input, output }: Pick<RequestRecord, 'version' | 'input' | 'output'>,
    { requestId = `request-${this.#count + 1}`, principal = '', at = this.#time + 1000 }: SentBy,
  ): this {
    const identity = identityOf(requestId, principal)
    return this.#take(type, { kind: 'request', identity, type, version, input, output }, at)
  }

  #assertAccepted(type: string): this {
    const outcome = this.#outcome()
    assert.equal(
      outcome.status,
      'accepted',
      `given "${type}" must be accepted, but it was ${JSON.stringify(outcome)}`,
    )
    return this
  }

  #end(type: string, end: { readonly done: boolean; readonly text: string }): this {
    const [first] = this.#outbox.list('pending', { type, limit: 1 })
    assert.ok(first, `no effect "${type}" is pending`)
    return this.#take(
      type,
      { kind: 'result', effect: first[0], input: inputHash(first[1].input), tries: 1, ms: 0, ...end },
      this.#time + 1000,
    )
  }

  #take(type: string, record: LogRecord, at: number): this {
    this.#assertReactionsSeen()
    this.#count++
    this.#time = Math.max(this.#time, at)
    const context = recordContext(this.#state, 'scenario', () => true)
    context.offset = this.#count
    context.time = this.#time
    const derivation = derivationContext(this.#program, this.#tables, true)
    const deriver = new Deriver(derivation, context)
    const derive = (each: LogRecord) => {
      const derived = deriveTwice(deriver, deriver, each)
      this.#state.commit()
      return derived
    }
    let step = derive(record)
    // An engine does the rest in steps of their own, one for each record.
    for (;;) {
      const [next, ...outgoing] = step.outgoing
      let rest: StepResult
      if (next !== undefined) rest = derive({ ...eventOf(next, 0, 0, this.#count), channelNumber: 0 })
      else if (derivation.timers.next(0) <= this.#time) rest = derive({ kind: 'tick' })
      else break
      step = {
        ...step,
        derivations: [...step.derivations, ...rest.derivations],
        outgoing: [...outgoing, ...rest.outgoing],
        decisions: [...step.decisions, ...rest.decisions],
      }
    }
    this.#last = { type, step }
    if (record.kind === 'request') this.#requests.set(`0:${this.#count}`, record)
    const trace = { time: this.#time, derivations: traced(step) }
    const traces = { partition: 0, offset: this.#count, trace }
    const folded = messagesIn(traces, this.#program.app, (root) => this.#decided(root, step))
    for (const view of this.#views.values()) view.foldOne(folded)
    return this
  }

  #decided(root: string, { decisions }: StepResult) {
    const { identity, type: name, version, input, output = input } = this.#requests.get(root)!
    const outcome = decisions.findLast(({ chain }) => chain.identity === identity)!.outcome!
    return { name, message: { ...senderOf(identity), version, input: JSON.parse(output), outcome } }
  }

  #derivations(): readonly Derivation[] {
    assert.ok(this.#last, 'a scenario needs a `when` before its `then`')
    return this.#last.step.derivations
  }

  #asked(): EffectState[] {
    return this.#derivations().flatMap(({ effects }) =>
      effects.map((id) => effectState(id, this.#outbox.get(id)!)),
    )
  }

  #outcome() {
    assert.ok(this.#last, 'a scenario needs a `when` before its `then`')
    const { outcome } = this.#last.step.decisions[0] ?? {}
    assert.ok(this.#last.step.decisions.length > 0, `${this.#last.type} is no request that was decided`)
    // A request with strict claims is decided later in the same step, after its claims.
    return outcome ?? this.#last.step.decisions[1]!.outcome!
  }

  /** Derivations that threw, other than the request's own. */
  #failed(): Derivation[] {
    return this.#derivations().filter(
      ({ kind, type, failure }) => failure && kind !== 'request' && type !== 'hence:verdict',
    )
  }

  #assertReactionsSeen(): void {
    const failed = this.#last === undefined ? [] : this.#failed()
    if (failed.length <= this.#failuresExpected) {
      this.#failuresExpected = 0
      return
    }
    const [{ type, key, failure }] = failed as [Derivation]
    assert.fail(
      `the reaction to "${type}" at ${JSON.stringify(key)} failed with ${failure!.code}: ${failure!.message}`,
    )
  }
}
