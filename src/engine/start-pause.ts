import { setImmediate as turn } from 'node:timers/promises'
import { type Clock, elapsed } from '../clock.ts'

/** After so many milliseconds of deriving the event loop gets a turn, for signals and progress. */
const sliceMs = 50

/** Who waits for a start. */
export interface StartWatch {
  /** Ends it. */
  readonly signal?: AbortSignal | undefined
  readonly progress?: ((progress: StartProgress) => void) | undefined
}

/** How far a start is: how many records are derived, of how many. */
export interface StartProgress {
  readonly derived: number
  readonly of: number
  /** The process that is active on the log, by its address, while this one follows it. */
  readonly follows?: string
}

/**
 * Pauses for a start that derives: reports the progress, saves, lets the event loop turn, and stops when the
 * signal aborts.
 * @param of how many records there are to derive
 * @param options.save begins a checkpoint if one is due; returns what to wait for before more is derived
 * @returns to be called with the number of records that were derived
 */
export function startPause(
  of: number,
  options: StartWatch & { readonly clock: Clock; readonly save: () => Promise<void> | undefined },
): (derived: number) => Promise<unknown> | undefined {
  const { clock, signal, progress, save } = options
  let since = elapsed(clock)
  if (of > 0) progress?.({ derived: 0, of })
  return (derived) => {
    if (signal?.aborted) return Promise.resolve('stop')
    const room = save()
    if (elapsed(clock) - since < sliceMs) return room
    progress?.({ derived, of })
    return (room ?? turn()).then(() => {
      since = elapsed(clock)
      return signal?.aborted ? 'stop' : undefined
    })
  }
}
