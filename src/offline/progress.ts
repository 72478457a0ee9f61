/** How far one step of long work has come. */
export interface OfflineProgress {
  /**
   * `copy`: writing a copy. `read`: reading the log. `verify`: checking it. `derive`: applying its records.
   * `compare`: holding rows against schemas.
   */
  readonly step: 'copy' | 'read' | 'verify' | 'derive' | 'compare'
  readonly done: number
  /** Undefined where it is not known beforehand. */
  readonly total: number | undefined
  readonly unit: 'bytes' | 'records' | 'rows'
}

/** Options of work that may take long. */
export interface LongWork {
  /** Called as a step advances, up to thousands of times a second. */
  readonly progress?: ((progress: OfflineProgress) => void) | undefined
  /** Stops the work. It then rejects with the signal's reason, and has removed its temporary files. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Begins a step of long work.
 * @returns the function to call with how much more is done; it throws the signal's reason once that is
 *   aborted
 */
export function beginStep(
  { progress, signal }: LongWork,
  step: OfflineProgress['step'],
  unit: OfflineProgress['unit'],
  total?: number,
): (amount: number) => void {
  let done = 0
  return (amount) => {
    done += amount
    progress?.({ step, done, total, unit })
    signal?.throwIfAborted()
  }
}
