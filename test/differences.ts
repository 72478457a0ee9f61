import { comparison } from '../src/diff/diff.ts'
import { type DiffSummary, Summariser, type SummaryOptions } from '../src/diff/diff-summary.ts'
import type { Difference } from '../src/diff/difference.ts'
import type { ComparedSide } from '../src/diff/merge.ts'

/** Everything in which two derivations differ, without the pauses in between. */
export function* differences(before: ComparedSide, after: ComparedSide): Generator<Difference> {
  for (const each of comparison(before, after)) if (each !== undefined) yield each
}

/** Summarises differences; does not await promises that `each` returns. */
export function summarise(found: Iterable<Difference>, options: SummaryOptions = {}): DiffSummary {
  const summariser = new Summariser(options)
  for (const difference of found) summariser.add(difference)
  return summariser.end()
}
