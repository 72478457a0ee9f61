import assert from 'node:assert/strict'
import type {
  App,
  Frozen,
  RequestInput,
  RequestName,
  RequestReason,
  RequestValue,
  TableKey,
  TableName,
  TableValue,
} from '../app/index.ts'
import { takeCheckedStep } from '../derivation/divergence.ts'
import { inProcess } from '../derivation/program.ts'
import type { Step } from '../derivation/step.ts'
import { type Workplace, workplace } from '../derivation/transaction.ts'
import { identityOf } from '../identity.ts'
import { inputOf, messageOf, requestOf } from '../request/message.ts'
import { encodeKey } from '../state/keys.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { TableState } from '../state/table.ts'

/** Who sends a request of a scenario, and when; both may be left out. */
export interface SentBy {
  readonly principal?: string
  readonly requestId?: string
  /** Log time, in milliseconds since 1970; it never goes backwards. Default: a second after the one before. */
  readonly at?: number
}

/**
 * Tests derivations without a log, a disk or a clock: what was given, what happens, what follows. Every
 * record is derived twice and compared, rows are held against their schemas, and the guards are on.
 * Events are applied in the same step, as on one partition.
 *
 * A reaction that throws fails the scenario where it happens; look for it with `thenReactionFailed`.
 */
export function scenario<A extends App>(app: A): Scenario<A> {
  return new Scenario(app)
}

export class Scenario<A extends App> {
  readonly #app: A
  readonly #state = new State(memoryStore())
  readonly #tables: ReadonlyMap<string, TableState>
  #time = Date.UTC(2026, 0, 1)
  #count = 0
  #last: { readonly type: string; readonly step: Step } | undefined
  #failuresExpected = 0

  constructor(app: A) {
    this.#app = app
    const codec = { encode: JSON.stringify, decode: JSON.parse }
    this.#tables = new Map(
      [...app.tables].map(([name, shape]) => [name, new TableState(this.#state, shape, codec)]),
    )
  }

  /** A request that was accepted before. */
  given<N extends RequestName<A>>(type: N, input: RequestInput<A, N>, by?: SentBy): this {
    this.when(type, input, by)
    const { outcome } = this.#last!.step
    assert.equal(
      outcome!.status,
      'accepted',
      `given "${type}" must be accepted, but it was ${JSON.stringify(outcome)}`,
    )
    return this
  }

  /** The request that the following `then…` are about. */
  when<N extends RequestName<A>>(type: N, input: RequestInput<A, N>, by: SentBy = {}): this {
    this.#assertReactionsSeen()
    const message = messageOf(requestOf(this.#app, type), inputOf(type, input))
    this.#count++
    this.#time = Math.max(this.#time, by.at ?? this.#time + 1000)
    const identity = identityOf(by.requestId ?? `request-${this.#count}`, by.principal ?? '')
    const program = inProcess(this.#app)
    try {
      const place: Workplace = workplace(program, this.#tables, true)
      const record = {
        kind: 'request',
        identity,
        type,
        input: message.input,
        output: message.output,
      } as const
      const step = takeCheckedStep(
        place,
        place,
        record,
        { identity, time: this.#time },
        {
          logId: 'scenario',
          isHere: () => true,
          mark: () => this.#state.mark(),
          undo: (mark) => this.#state.undo(mark),
          changes: (mark) => this.#state.changes(mark),
        },
      )
      this.#state.commit()
      this.#last = { type, step }
    } finally {
      program.close()
    }
    return this
  }

  /** It was accepted, with this value where one is given. */
  thenAccepted<N extends RequestName<A>>(...value: [] | [RequestValue<A, N>]): this {
    const outcome = this.#outcome()
    if (value.length === 0) assert.equal(outcome.status, 'accepted', `it was ${JSON.stringify(outcome)}`)
    else assert.deepEqual(outcome, { status: 'accepted', value: value[0] })
    return this
  }

  /** It was rejected for this reason, with these details where they are given; so it changed nothing. */
  thenRejected<N extends RequestName<A>>(reason: RequestReason<A, N>, ...details: [] | [unknown]): this {
    const outcome = this.#outcome()
    assert.ok(outcome.status === 'rejected', `it was ${JSON.stringify(outcome)}`)
    assert.equal(outcome.reason, reason)
    if (details.length > 0) assert.deepEqual(outcome.details, details[0])
    return this
  }

  /** Its derivation threw; `code` is `derivation-threw` for errors of its own. */
  thenFailed(code?: string): this {
    const outcome = this.#outcome()
    assert.ok(outcome.status === 'failed', `it was ${JSON.stringify(outcome)}`)
    if (code !== undefined) assert.equal(outcome.code, code, outcome.message)
    return this
  }

  /** A reaction to an event of this type threw, and left nothing. */
  thenReactionFailed(type: string, code?: string): this {
    const failure = this.#last?.step.failures.find((each) => each.type === type)
    assert.ok(failure, `no reaction to "${type}" failed`)
    if (code !== undefined) assert.equal(failure.code, code, failure.message)
    this.#failuresExpected++
    return this
  }

  /** The row is this one; undefined when there is none. */
  thenRow<N extends TableName<A>>(
    table: N,
    key: TableKey<A, N>,
    row: Frozen<TableValue<A, N>> | undefined,
  ): this {
    this.#assertReactionsSeen()
    const state = this.#tables.get(table)
    assert.ok(state, `the app has no table "${table}"`)
    const found = state.get(encodeKey(key))
    assert.deepEqual(found === undefined ? undefined : JSON.parse(JSON.stringify(found)), row)
    return this
  }

  /** The events that followed, in their order, are of these types. */
  thenEvents(...types: string[]): this {
    this.#outcome()
    assert.deepEqual(
      this.#last!.step.applied.map(({ event }) => event.name),
      types,
    )
    return this
  }

  #outcome() {
    assert.ok(this.#last, 'a scenario needs a `when` before its `then`')
    return this.#last.step.outcome!
  }

  #assertReactionsSeen(): void {
    const failures = this.#last?.step.failures ?? []
    if (failures.length <= this.#failuresExpected) {
      this.#failuresExpected = 0
      return
    }
    const [{ type, key, code, message }] = failures as [Step['failures'][number]]
    assert.fail(`the reaction to "${type}" at ${JSON.stringify(key)} failed with ${code}: ${message}`)
  }
}
