import type { Failure, StepResult } from '../derivation/step-result.ts'
import type { StoredOutcome } from '../derivation/stored-outcome.ts'
import type { EventRecord } from '../log/record.ts'
import type { Trace, TracedDerivation } from './traces.ts'

/** A derivation that threw. */
export interface RecordedFailure extends Failure {
  readonly type: string
  readonly key: string
  readonly partition: number
  readonly offset: number
}

/** Methods that a processor calls as it works; each may be left out. */
export interface ProcessorListener {
  /**
   * A request was applied, and was decided now or before, or waits for its claims (then without an outcome); or a request that
   * waited was decided.
   */
  decided?(identity: string, decided: StoredOutcome): void
  /** A derivation emitted an event for another partition. */
  emitted?(target: number, event: EventRecord): void
  /** A derivation threw. */
  failed?(failure: RecordedFailure): void
  /** A record was applied; the rows are those of the program's realm. */
  applied?(partition: number, offset: number, trace: Trace): void
}

/** Reports a record that was derived; its events were reported as they were sent. */
export function reportStep(
  listener: ProcessorListener,
  { partition, offset, time }: { readonly partition: number; readonly offset: number; readonly time: number },
  step: StepResult,
  derivations: readonly TracedDerivation[],
): void {
  if (listener.failed) {
    for (const { type, key, failure } of step.derivations) {
      if (failure !== undefined) listener.failed({ type, key, ...failure, partition, offset })
    }
  }
  if (listener.decided) {
    for (const { chain, outcome } of step.decisions) {
      const { identity, rootPartition, rootOffset } = chain
      listener.decided(identity, { partition: rootPartition, offset: rootOffset, outcome })
    }
  }
  listener.applied?.(partition, offset, { time, derivations })
}
