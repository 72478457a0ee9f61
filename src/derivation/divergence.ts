import canonicalize from 'canonicalize'
import { HenceError } from '../failure.ts'
import { requestIdOf } from '../identity.ts'
import type { LogRecord } from '../log/record.ts'
import type { StateChange } from '../state/state.ts'
import type { DerivationContext } from './context.ts'
import { type RecordContext, type Step, takeStep } from './step.ts'

/**
 * Takes a step twice, once in another derivationContext, and compares what came of it: a difference shows a
 * derivation that depends on more than its tables and its record, such as on a variable of its module.
 * The changes of the second time stand.
 *
 * @throws HenceError `divergence` (change), which names the table and key, with nothing left changed
 */
export function takeCheckedStep(
  place: DerivationContext,
  other: DerivationContext,
  record: LogRecord,
  around: RecordContext,
): Step {
  const mark = around.mark()
  const first = picture(takeStep(other, record, around), around.changes(mark))
  around.undo(mark)
  place.timers.forgetTaken()
  const step = takeStep(place, record, around)
  const second = picture(step, around.changes(mark))
  for (const [what, value] of second) {
    if (first.get(what) !== value) throw diverged(around, mark, record, what, first.get(what), value)
    first.delete(what)
  }
  for (const [what, value] of first) throw diverged(around, mark, record, what, value, undefined)
  return step
}

/** All that a step did, by the name that a person would look it up by. */
function picture(step: Step, changes: Iterable<StateChange>): Map<string, string> {
  const seen = new Map<string, string>()
  for (const { collection, key, after } of changes) {
    seen.set(`${collection} ${JSON.stringify(key)}`, canonicalize(after) ?? 'nothing')
  }
  for (const [i, { type, key, data, origin }] of step.outgoing.entries()) {
    seen.set(
      `emitted event ${i}`,
      canonicalize([type, key, data, Buffer.from(origin.seed, 'latin1').toString('hex')])!,
    )
  }
  for (const { chain, outcome } of step.decisions) {
    seen.set(`the outcome of ${requestIdOf(chain.identity)}`, canonicalize(outcome) ?? 'nothing')
  }
  const failures = step.derivations.map(({ failure }) => failure ?? null)
  seen.set('the failures', canonicalize(failures)!)
  return seen
}

function diverged(
  around: RecordContext,
  mark: number,
  record: LogRecord,
  what: string,
  first: string | undefined,
  second: string | undefined,
): HenceError {
  around.undo(mark)
  return new HenceError(
    'divergence',
    'change',
    `The derivation of ${record.kind}${'type' in record ? ` "${record.type}"` : ''} is not deterministic: ${what} was ${first ?? 'nothing'} the first time ` +
      `and ${second ?? 'nothing'} the second. It may use its tables, its input and \`tx\` only, and no variable that outlives it.`,
  )
}
