import canonicalize from 'canonicalize'
import { changeError, HenceError } from '../failure.ts'
import { requestIdOf } from '../identity.ts'
import type { LogRecord } from '../log/record.ts'
import type { Program } from '../sandbox/program.ts'
import type { StateChange } from '../state/state.ts'
import type { TableState } from '../state/table.ts'
import type { Chain } from './chain.ts'
import { type DerivationContext, inRealmOf, type RecordContext } from './context.ts'
import { Deriver } from './step.ts'
import type { StepResult } from './step-result.ts'

/** Making a realm takes milliseconds, so only one record in so many is derived in a fresh one. */
const recordsPerRealm = 100

/**
 * Derives every record twice, for dev mode: at times in a fresh realm, which shows variables that outlive a
 * derivation. A record that is not derived the same twice counts as failed.
 */
export class CheckingDeriver {
  readonly #program: Program
  readonly #tables: ReadonlyMap<string, TableState>
  readonly #deriver: Deriver
  #count = 0

  constructor(
    program: Program,
    tables: ReadonlyMap<string, TableState>,
    context: DerivationContext,
    recordContext: RecordContext,
  ) {
    this.#program = program
    this.#tables = tables
    this.#deriver = new Deriver(context, recordContext)
  }

  /** Throws what `Deriver.derive` throws. */
  derive(record: LogRecord): StepResult {
    const { context, recordContext } = this.#deriver
    const other =
      ++this.#count % recordsPerRealm === 0
        ? new Deriver(inRealmOf(this.#program.fresh(), context, this.#tables), recordContext)
        : this.#deriver
    try {
      return deriveTwice(this.#deriver, other, record)
    } catch (error) {
      if (!(error instanceof HenceError) || error.advice !== 'change') throw error
      recordContext.undo(0)
      context.timers.forgetTaken()
      const failed = failedResult(record, recordContext, error)
      if (record.kind === 'request') return failed
      // Only a request can fail as a whole: a timer must go off, and a request waits for its verdict.
      const result = this.#deriver.derive(record)
      return { ...result, derivations: [...result.derivations, ...failed.derivations] }
    }
  }
}

/**
 * Derives a record twice, with two derivers over the same state, and compares the results: a difference shows
 * a derivation that depends on more than its tables and its record, for example on a variable of its module.
 * The second result stands.
 *
 * @throws HenceError `divergence` (change), which names the table and key; the changes of state are then
 *   undone
 */
export function deriveTwice(deriver: Deriver, other: Deriver, record: LogRecord): StepResult {
  const { context, recordContext } = deriver
  const mark = recordContext.mark()
  const first = picture(other.derive(record), recordContext.changes(mark))
  recordContext.undo(mark)
  context.timers.forgetTaken()
  const result = deriver.derive(record)
  const second = picture(result, recordContext.changes(mark))
  for (const [what, value] of second) {
    if (first.get(what) !== value) {
      recordContext.undo(mark)
      throw notDeterministic(record, what, first.get(what), value)
    }
    first.delete(what)
  }
  for (const [what, value] of first) {
    recordContext.undo(mark)
    throw notDeterministic(record, what, value, undefined)
  }
  return result
}

/** Everything that a step did, by the name that a person would look for. */
function picture(result: StepResult, changes: Iterable<StateChange>): Map<string, string> {
  const seen = new Map<string, string>()
  for (const { collection, key, after } of changes) {
    seen.set(`${collection} ${JSON.stringify(key)}`, canonicalize(after) ?? 'nothing')
  }
  for (const [i, { type, key, data, origin }] of result.outgoing.entries()) {
    seen.set(
      `emitted event ${i}`,
      canonicalize([type, key, data, Buffer.from(origin.seed, 'latin1').toString('hex')])!,
    )
  }
  for (const { chain, outcome } of result.decisions) {
    seen.set(`the outcome of ${requestIdOf(chain.identity)}`, canonicalize(outcome) ?? 'nothing')
  }
  const failures = result.derivations.map(({ failure }) => failure ?? null)
  seen.set('the failures', canonicalize(failures)!)
  return seen
}

/** The result of a record that is not derived the same twice: for a request, nothing but its failure. */
function failedResult(
  record: LogRecord,
  { partition, offset, time }: RecordContext,
  { code, message }: HenceError,
): StepResult {
  const failure = { code, message }
  const chain: Chain =
    record.kind === 'event'
      ? record
      : {
          identity: record.kind === 'request' ? record.identity : '',
          rootPartition: partition,
          rootOffset: offset,
        }
  return {
    derivations: [
      {
        kind: 'type' in record ? record.kind : record.kind === 'result' ? 'result' : 'timer',
        type: 'type' in record ? record.type : record.kind,
        key: record.kind === 'event' ? record.key : '',
        chain,
        at: time,
        changes: [],
        emissions: [],
        effects: [],
        failure,
      },
    ],
    outgoing: [],
    decisions: record.kind === 'request' ? [{ chain, outcome: { status: 'failed', ...failure } }] : [],
    parked: [],
    moved: [],
  }
}

const notDeterministic = (
  record: LogRecord,
  what: string,
  first: string | undefined,
  second: string | undefined,
) =>
  changeError(
    'divergence',
    `The derivation of ${record.kind}${'type' in record ? ` "${record.type}"` : ''} is not deterministic: ` +
      `${what} was ${first ?? 'nothing'} the first time and ${second ?? 'nothing'} the second. It may use ` +
      `its tables, its input and \`tx\` only, and no variable that outlives it.`,
  )
