/** Tells the time; passed in, so that a simulation can drive it. */
export interface Clock {
  /** Milliseconds since 1970. May go backwards; whoever needs it not to must see to that. */
  now(): number
  /**
   * Calls back once, when `now` has come to a time, or a little later; or when the clock was set back meanwhile, since
   * that time may now be years away. Left out: a timer of the runtime, which does not keep the process alive.
   * @returns takes it back
   */
  alarm?(time: number, ring: () => void): () => void
}

/** The clock of the machine. */
export const systemClock: Clock = { now: () => Date.now() }

const timeoutMsMax = 2 ** 31 - 1

/** Calls back once when a clock has come to a time, or was set back; see `Clock.alarm`. */
export function setAlarm(clock: Clock, time: number, ring: () => void): () => void {
  if (clock.alarm) return clock.alarm(time, ring)
  let timer: NodeJS.Timeout
  let before = clock.now()
  const wait = () => {
    const now = clock.now()
    const left = time - now
    const isSetBack = now < before
    before = now
    // The runtime counts other milliseconds than the clock, and takes a wait that is too long for none.
    if (left > 0 && !isSetBack) timer = setTimeout(wait, Math.min(left, timeoutMsMax)).unref()
    else ring()
  }
  timer = setTimeout(wait, Math.max(0, Math.min(time - clock.now(), timeoutMsMax))).unref()
  return () => clearTimeout(timer)
}

/** Waits; ends early, without an error, when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
  })
}

/** Waits for a promise or for the signal, whichever comes first, and leaves nothing at the signal, which may serve for a long time. */
export async function orAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const stop = () => resolve()
  signal.addEventListener('abort', stop)
  try {
    await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
