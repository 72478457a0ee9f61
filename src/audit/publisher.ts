import { type Clock, setAlarm } from '../clock.ts'
import type { Reporter } from '../report.ts'
import type { SignedHead } from './head.ts'

/**
 * Shows a head to somebody else, whose keeping of it is what binds the log's owner. It is called with one head at a
 * time, the newest there is. When it throws it is called again later, with what is the newest then, and not before the
 * milliseconds that the error has as `retryAfterMs`, where it has. A head may come a second time after a restart.
 * @param signal aborts when the call takes too long, or the engine has closed
 */
export type Publish = (head: SignedHead, signal: AbortSignal) => void | Promise<void>

export interface PublisherOptions {
  readonly publish: Publish
  readonly clock: Clock
  readonly report: Reporter
  /** Numbers in [0, 1), for the delays between tries. */
  readonly random?: (() => number) | undefined
}

/** The delay after the first try that failed; it doubles with each one. In milliseconds. */
const delayMs = 1_000
const delayMsMax = 60_000
/** How long the receiver may put off the next try, whatever it asks for. */
const retryAfterMsMax = 60 * 60 * 1000
const tryMs = 10_000
/** How long a closing waits for the last head to be shown: a deploy hands the directory over only after it. */
const closeMs = 1_000

/**
 * Shows heads to one receiver, beside everything else: nobody waits for it. While a call is under way or has failed, one
 * head waits, the newest: what an earlier one vouches for, every later one of the same log does too.
 */
export class Publisher {
  readonly #options: PublisherOptions
  readonly #closing = new AbortController()
  readonly #ended = new AbortController()
  #waiting: SignedHead | undefined
  #running: Promise<void> | undefined
  #failing = false

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /** Takes a head instead of the one that waits, if one does. */
  offer(head: SignedHead): void {
    if (this.#closing.signal.aborted) return
    this.#waiting = head
    this.#running ??= this.#run()
  }

  /** Tries what waits once more, for a second at most. */
  async close(): Promise<void> {
    this.#closing.abort()
    const timer = setTimeout(() => this.#ended.abort(new Error('the engine has closed')), closeMs)
    await this.#running
    clearTimeout(timer)
  }

  async #run(): Promise<void> {
    const [closing, ended] = [this.#closing.signal, this.#ended.signal]
    let tries = 0
    while (this.#waiting !== undefined && !ended.aborted) {
      const head = this.#waiting
      this.#waiting = undefined
      const isLast = closing.aborted
      try {
        await this.#call(head)
        tries = 0
        this.#succeeded()
      } catch (error) {
        this.#waiting ??= head
        this.#failed(error as Error)
        if (isLast) break
        await this.#wait(Math.max(this.#delay(++tries), retryAfterOf(error)))
      }
    }
    this.#running = undefined
  }

  async #call(head: SignedHead): Promise<void> {
    const tooLong = new AbortController()
    const timer = setTimeout(() => tooLong.abort(new Error(`it took longer than ${tryMs} ms`)), tryMs).unref()
    const signal = AbortSignal.any([tooLong.signal, this.#ended.signal])
    const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve))
    const call = (async () => this.#options.publish(head, signal))()
    try {
      await Promise.race([call, aborted])
      if (!signal.aborted) return
      this.#failed(signal.reason)
      // Whoever does not heed the signal is waited for: calls that nobody can end must not gather.
      const ended = this.#ended.signal
      const end = new Promise((resolve) => ended.addEventListener('abort', resolve))
      if (!ended.aborted) await Promise.race([call.catch(() => {}), end])
      throw signal.reason
    } finally {
      clearTimeout(timer)
    }
  }

  /** Waits, though not beyond a closing. */
  #wait(ms: number): Promise<void> {
    const { signal } = this.#closing
    const { clock } = this.#options
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const end = () => {
        cancel()
        signal.removeEventListener('abort', end)
        resolve()
      }
      const cancel = setAlarm(clock, clock.now() + ms, end)
      signal.addEventListener('abort', end)
    })
  }

  #delay(tries: number): number {
    const { random = Math.random } = this.#options
    return Math.min(delayMsMax, delayMs * 2 ** Math.min(tries - 1, 30)) * (0.5 + random() / 2)
  }

  /** An outage is told once, and its end once. */
  #failed({ message }: Error): void {
    if (this.#failing) return
    this.#failing = true
    this.#options.report({
      level: 'warning',
      code: 'heads-not-published',
      message:
        `Tree heads are not published: ${message}. It is tried again; then the newest one is shown, which vouches for what ` +
        'those before it do.',
    })
  }

  #succeeded(): void {
    if (!this.#failing) return
    this.#failing = false
    this.#options.report({
      level: 'warning',
      code: 'heads-published-again',
      message: 'Tree heads are published again, the newest one now. Those that came meanwhile were left out.',
    })
  }
}

function retryAfterOf(error: unknown): number {
  const { retryAfterMs } = (error ?? {}) as { readonly retryAfterMs?: unknown }
  return typeof retryAfterMs === 'number' && retryAfterMs > 0 ? Math.min(retryAfterMs, retryAfterMsMax) : 0
}
