import type { Outcome } from '../app/index.ts'
import { type DerivationContext, noRulings, type RecordContext } from '../derivation/context.ts'
import { Deriver } from '../derivation/step.ts'
import { partitionOf } from '../log/partitions.ts'
import type { LogRecord, RequestRecord } from '../log/record.ts'
import { elapsedMs } from '../sandbox/timed.ts'
import { eventOf } from './event-order.ts'
import type { TracedDerivation } from './trace.ts'
import { traced } from './traced.ts'

/** A request that was derived, and undone. */
export interface Previewed<Shown> {
  /** Undefined if the request would have to wait, for example because its key waits for another one. */
  readonly outcome: Outcome | undefined
  readonly steps: readonly Shown[]
  /** Whether these are all; a preview ends after a bound of steps and of time. */
  readonly isWhole: boolean
}

const stepsMax = 1_000
/** Nothing else is derived meanwhile, in milliseconds. */
const previewMs = 50

/**
 * Derives a request and all that would follow at once in any partition, as if no other record came in
 * between, and undoes it: nothing is kept, appended or delivered.
 *
 * @param key its partition key
 * @param show called with each derivation while its rows and effects can be read
 * @throws what `Deriver.derive` throws; Interruption
 */
export function preview<Shown>(
  request: RequestRecord,
  key: string,
  given: {
    readonly context: DerivationContext
    readonly recordContext: RecordContext
    readonly positions: readonly number[]
    /** The log time that a partition derives at: earlier than its next timer. */
    timeIn(partition: number): number
  },
  show: (derivation: TracedDerivation, time: number) => Shown,
): Previewed<Shown> {
  const { context, recordContext, positions, timeIn } = given
  const deriver = new Deriver(context, recordContext)
  const steps: Shown[] = []
  let outcome: Outcome | undefined
  const partition = partitionOf(key, positions.length)
  const messages: { readonly partition: number; readonly record: LogRecord }[] = [
    { partition, record: request },
  ]
  const begun = elapsedMs()
  const mark = recordContext.mark()
  try {
    // More are added as they are emitted.
    for (const { partition, record } of messages) {
      if (steps.length >= stepsMax || elapsedMs() - begun > previewMs)
        return { outcome, steps, isWhole: false }
      const [offset, time] = [positions[partition]!, timeIn(partition)]
      Object.assign(recordContext, { partition, offset, time, root: undefined, rulings: noRulings })
      const step = deriver.derive(record)
      if (record === request) outcome = step.decisions.at(-1)?.outcome
      for (const derivation of traced(step)) steps.push(show(derivation, time))
      for (const emission of step.outgoing) {
        const event = { ...eventOf(emission, 0, partition, offset), channelNumber: 0 }
        messages.push({ partition: partitionOf(emission.key, positions.length), record: event })
      }
    }
    return { outcome, steps, isWhole: true }
  } finally {
    recordContext.undo(mark)
    context.timers.forgetTaken()
  }
}
