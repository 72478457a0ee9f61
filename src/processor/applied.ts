import type { Failure, StepResult } from '../derivation/step-result.ts'
import type { DecidedOutcome } from '../derivation/stored-outcome.ts'
import type { EventRecord } from '../log/record.ts'
import type { Trace } from './trace.ts'
import { traced } from './traced.ts'

/** The results of applying a record, or a message between two records. */
export interface Applied {
  /** The position of the record; of a message between two records, that of the second. */
  readonly partition: number
  readonly offset: number
  /** Requests that it decided, or found decided; and one that now waits for claims, without outcome. */
  readonly decided: readonly { readonly identity: string; readonly stored: DecidedOutcome }[]
  /** The identity of a request whose id is older than the watermark; it derived nothing. */
  readonly expired?: string
  /** Events that it emitted, with the partitions that they are for. */
  readonly emitted: readonly { readonly target: number; readonly event: EventRecord }[]
  /** The rows in it are those of the program's realm. */
  readonly trace: Trace
}

/** A derivation that threw. */
export interface RecordedFailure extends Failure {
  readonly type: string
  /** Left out if it is not known; see `StoryStep`. */
  readonly key?: string
  readonly partition: number
  readonly offset: number
}

export function appliedStep(
  { partition, offset, time }: { readonly partition: number; readonly offset: number; readonly time: number },
  step: StepResult,
  emitted: Applied['emitted'],
): Applied {
  const decided = mapped(step.decisions, ({ chain, outcome }) => {
    const { identity, rootPartition, rootOffset } = chain
    return { identity, stored: { partition: rootPartition, offset: rootOffset, outcome } }
  })
  return { partition, offset, decided, emitted, trace: { time, derivations: traced(step) } }
}

/** Maps a list without a call where it has one item or none, as most lists of a record. */
export function mapped<T, M>(list: readonly T[], act: (item: T) => M): readonly M[] {
  if (list.length === 0) return none
  return list.length === 1 ? [act(list[0]!)] : list.map((item) => act(item))
}

const none: readonly never[] = []

/** The derivations of a record that threw. */
export function failuresOf({ partition, offset, trace }: Applied): RecordedFailure[] {
  const failures: RecordedFailure[] = []
  for (const { type, key, failure } of trace.derivations) {
    if (failure !== undefined)
      failures.push({ type, ...(key !== '' && { key }), ...failure, partition, offset })
  }
  return failures
}
