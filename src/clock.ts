/** The source of time, passed in so that a simulation can drive it. */
export interface Clock {
  /** Milliseconds since 1970. Can go backwards; callers that need a monotonic time must handle that. */
  now(): number
  /**
   * Calls back once when `now` reaches a time, or a little later; or when the clock is set back, since that
   * time may now be years away. Default: a timer of the runtime, which does not keep the process alive.
   * @returns cancels the alarm
   */
  alarm?(time: number, ring: () => void): () => void
  /**
   * Milliseconds, with fractions, since any fixed moment; never goes back. For measuring durations, and so
   * that an engine notices when `now` jumps. Default: the runtime's, and `now` is followed wherever it goes.
   */
  elapsed?(): number
  /**
   * Calls back once when a duration has passed, whatever happens to `now`. Default: a timer of the runtime.
   * @returns cancels the timer
   */
  timer?(ms: number, done: () => void): () => void
}

/** The clock of the machine. */
export const systemClock: Clock = { now: () => Date.now(), elapsed: () => performance.now() }

const timeoutMsMax = 2 ** 31 - 1

/** Calls back once when a clock reaches a time or is set back; see `Clock.alarm`. */
export function setAlarm(clock: Clock, time: number, ring: () => void): () => void {
  if (clock.alarm) return clock.alarm(time, ring)
  let timer: NodeJS.Timeout
  let before = clock.now()
  const wait = () => {
    const now = clock.now()
    const left = time - now
    const isSetBack = now < before
    before = now
    // The runtime's timers drift from the clock, and treat a wait above the maximum as none.
    if (left > 0 && !isSetBack) timer = setTimeout(wait, Math.min(left, timeoutMsMax)).unref()
    else ring()
  }
  timer = setTimeout(wait, Math.max(0, Math.min(time - clock.now(), timeoutMsMax))).unref()
  return () => clearTimeout(timer)
}

/** Milliseconds for measuring durations; see `Clock.elapsed`. */
export const elapsed = (clock: Clock): number => (clock.elapsed ? clock.elapsed() : performance.now())

/**
 * Calls back once when a duration has passed; see `Clock.timer`.
 * @param keepsAlive whether the process stays alive until then
 * @returns cancels the timer
 */
export function setTimer(clock: Clock, ms: number, done: () => void, keepsAlive = true): () => void {
  if (clock.timer) return clock.timer(ms, done)
  const timer = setTimeout(done, ms)
  if (!keepsAlive) timer.unref()
  return () => clearTimeout(timer)
}

/**
 * Waits for a duration, and keeps the process alive meanwhile. Ends early, without an error, when the signal
 * aborts.
 */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const end = () => {
      cancel()
      signal.removeEventListener('abort', end)
      resolve()
    }
    const cancel = setTimer(clock, ms, end)
    signal.addEventListener('abort', end)
  })
}

/**
 * Waits until a clock has moved on by some milliseconds, or was set back. Ends early, without an error, when
 * the signal aborts. It does not keep the process alive.
 */
export function backgroundPause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted || ms <= 0) return resolve()
    const end = () => {
      cancel()
      signal.removeEventListener('abort', end)
      resolve()
    }
    const cancel = setAlarm(clock, clock.now() + ms, end)
    signal.addEventListener('abort', end)
  })
}

/**
 * Waits for a promise or an abort, whichever comes first. Leaves no listener on the signal, which may be
 * long-lived.
 */
export async function orAborted(promise: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const stop = () => resolve()
  if (signal?.aborted) stop()
  signal?.addEventListener('abort', stop)
  try {
    await Promise.race([promise, aborted])
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/** Resolves as a promise does, or to undefined after some milliseconds. */
export function orAfter<T>(promise: Promise<T>, ms: number, keepsAlive = true): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const cancel = setTimer(systemClock, ms, () => resolve(undefined), keepsAlive)
  return Promise.race([promise, late]).finally(cancel)
}
