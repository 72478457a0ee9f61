import { backgroundPause, type Clock, orAborted, setAlarm } from '../clock.ts'
import { unended } from '../failure.ts'
import type { Reporter } from '../report.ts'
import { headLine, type SignedHead } from './head.ts'
import { openHeadFile } from './head-file.ts'

/**
 * Publishes a head to a third party; that party's copy is what binds the owner of the log. Called with one
 * head at a time, the newest. If it throws, it is called again later with the head that is newest then. After
 * a restart the same head may come again.
 * @param signal aborts when the call takes too long or the engine has closed
 */
export type Publish = (head: SignedHead, signal: AbortSignal) => void | Promise<void>

/**
 * Appends heads to a file, a line each, as `hence verify --head` reads them; each is durable before the next
 * one comes. Opens the file for each head, so that it may be moved away, and makes it if it is missing. Never
 * repeats its last line.
 */
export function publishToFile(path: string): Publish {
  return async (head) => {
    const file = await openHeadFile(path, 0o644)
    try {
      if (file.last === undefined || headLine(file.last) !== headLine(head)) await file.add(head)
    } finally {
      await file.close()
    }
  }
}

interface PublisherOptions {
  readonly publish: Publish
  readonly clock: Clock
  readonly report: Reporter
}

/** The delay after the first failed try, in milliseconds; it doubles with each further one. */
const delayMs = 1_000
const delayMsMax = 60_000
const tryMs = 10_000
/** How long a close waits for the last head to be published: a deploy hands the directory over only after it. */
const closeMs = 1_000

/**
 * Publishes heads to one receiver, in the background. While a call is under way or has failed only the newest
 * head waits: everything that an earlier head vouches for, each later head of the same log vouches for too.
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

  /** Takes a head; it replaces the one that waits, if any. */
  offer(head: SignedHead): void {
    if (this.#closing.signal.aborted) return
    this.#waiting = head
    this.#running ??= this.#run()
  }

  /** Tries the head that waits once more, for a second at most. */
  async close(): Promise<void> {
    this.#closing.abort()
    const { clock } = this.#options
    const end = () => this.#ended.abort(new Error('the engine has closed'))
    const cancel = setAlarm(clock, clock.now() + closeMs, end)
    await this.#running
    cancel()
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
        const ms = Math.min(delayMsMax, delayMs * 2 ** Math.min(tries++, 30))
        await backgroundPause(this.#options.clock, ms, closing)
      }
    }
    this.#running = undefined
  }

  async #call(head: SignedHead): Promise<void> {
    const tooLong = new AbortController()
    const { clock } = this.#options
    const cancel = setAlarm(clock, clock.now() + tryMs, () =>
      tooLong.abort(new Error(`it took longer than ${tryMs} ms`)),
    )
    const signal = AbortSignal.any([tooLong.signal, this.#ended.signal])
    const call = (async () => this.#options.publish(head, signal))()
    try {
      await orAborted(call, signal)
      if (!signal.aborted) return
      this.#failed(signal.reason)
      // Waits even if the call ignores the signal: calls that nobody can end must not pile up.
      await orAborted(
        call.catch(() => {}),
        this.#ended.signal,
      )
      throw signal.reason
    } finally {
      cancel()
    }
  }

  /** Reports an outage once, and its end once. */
  #failed({ message }: Error): void {
    if (this.#failing) return
    this.#failing = true
    this.#options.report({
      level: 'warning',
      code: 'heads-not-published',
      message:
        `Tree heads are not published: ${unended(message)}. Hence tries again with the newest head, which vouches ` +
        'for everything that those before it do.',
    })
  }

  #succeeded(): void {
    if (!this.#failing) return
    this.#failing = false
    this.#options.report({
      level: 'warning',
      code: 'heads-published-again',
      message: 'Tree heads are published again, the newest one now. The heads of the outage were left out.',
    })
  }
}
