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

/** Whether something was done within a duration. A time in the future is that of a clock that was wrong. */
export function isWithin(clock: Clock, ms: number, at: number | undefined): boolean {
  const now = clock.now()
  return at !== undefined && at <= now && now - at < ms
}

/** Milliseconds for measuring durations; see `Clock.elapsed`. */
export const elapsed = (clock: Clock): number => (clock.elapsed ? clock.elapsed() : performance.now())

/** Calls back once when a duration has passed; see `Clock.timer`. Returns what cancels that. */
export function setTimer(clock: Clock, ms: number, done: () => void, keepsAlive = true): () => void {
  if (clock.timer) return clock.timer(ms, done)
  const timer = setTimeout(done, ms)
  if (!keepsAlive) timer.unref()
  return () => clearTimeout(timer)
}

/** Calls back at an abort, or at once after one. Returns what ends that: a signal may be long-lived. */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act()
  signal?.addEventListener('abort', act)
  return () => signal?.removeEventListener('abort', act)
}

/** Waits for a duration, and keeps the process alive meanwhile. An abort ends it early, without an error. */
export const pause = (clock: Clock, ms: number, signal: AbortSignal): Promise<void> =>
  wait((end) => setTimer(clock, ms, end), signal)

/**
 * Waits until a clock has moved on by some milliseconds, or was set back. Ends early, without an error, when
 * the signal aborts. It does not keep the process alive.
 */
export async function backgroundPause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await wait((end) => setAlarm(clock, clock.now() + ms, end), signal)
}

function wait(begin: (end: () => void) => () => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const end = () => {
      cancel()
      forget()
      resolve()
    }
    const cancel = begin(end)
    const forget = onAbort(signal, end)
  })
}

/** Waits for a promise or an abort. */
export async function orAborted(promise: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const forget = onAbort(signal, resolve)
  try {
    await Promise.race([promise, aborted])
  } finally {
    forget()
  }
}

/** Resolves as a promise does, or to undefined after some milliseconds. */
export function orAfter<T>(promise: Promise<T>, ms: number, keepsAlive = true): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const cancel = setTimer(systemClock, ms, () => resolve(undefined), keepsAlive)
  return Promise.race([promise, late]).finally(cancel)
}
