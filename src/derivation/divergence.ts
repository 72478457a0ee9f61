import canonicalize from 'canonicalize'
import { HenceError } from '../failure.ts'
import type { EventRecord, RequestRecord } from '../log/record.ts'
import type { Change } from '../state/state.ts'
import { type Step, type Surroundings, takeStep } from './step.ts'
import type { Facts, Workplace } from './transaction.ts'

/** What the check needs besides what a step needs. */
export interface CheckedSurroundings extends Surroundings {
  changes(mark: number): Iterable<Change>
}

/**
 * Takes a step twice, once in another workplace, and compares what came of it: a difference shows a
 * derivation that depends on more than its tables and its record, such as on a variable of its module.
 * The changes of the second time stand.
 *
 * @throws HenceError `divergence` (change), which names the table and key, with nothing left changed
 */
export function takeCheckedStep(
  place: Workplace,
  other: Workplace,
  record: RequestRecord | EventRecord,
  facts: Facts,
  around: CheckedSurroundings,
): Step {
  const mark = around.mark()
  const first = picture(takeStep(other, record, facts, around), around.changes(mark))
  around.undo(mark)
  const step = takeStep(place, record, facts, around)
  const second = picture(step, around.changes(mark))
  for (const [what, value] of second) {
    if (first.get(what) !== value) throw diverged(around, mark, record, what, first.get(what), value)
    first.delete(what)
  }
  for (const [what, value] of first) throw diverged(around, mark, record, what, value, undefined)
  return step
}

/** All that a step did, by the name that a person would look it up by. */
function picture(step: Step, changes: Iterable<Change>): Map<string, string> {
  const seen = new Map<string, string>()
  for (const { collection, key, after } of changes) {
    seen.set(`${collection} ${JSON.stringify(key)}`, canonicalize(after) ?? 'nothing')
  }
  for (const [i, { event, key, data, origin }] of step.outgoing.entries()) {
    seen.set(
      `emitted event ${i}`,
      canonicalize([event.name, key, data, Buffer.from(origin.seed, 'latin1').toString('hex')])!,
    )
  }
  seen.set('the outcome', canonicalize(step.outcome) ?? 'nothing')
  seen.set('the failures', canonicalize(step.failures)!)
  return seen
}

function diverged(
  around: CheckedSurroundings,
  mark: number,
  record: RequestRecord | EventRecord,
  what: string,
  first: string | undefined,
  second: string | undefined,
): HenceError {
  around.undo(mark)
  return new HenceError(
    'divergence',
    'change',
    `The derivation of ${record.kind} "${record.type}" is not deterministic: ${what} was ${first ?? 'nothing'} the first time ` +
      `and ${second ?? 'nothing'} the second. It may use its tables, its input and \`tx\` only, and no variable that outlives it.`,
  )
}
