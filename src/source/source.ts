import type { App, RequestInput, RequestName } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { type Clock, orAborted, pause, systemClock } from '../clock.ts'
import type { Engine } from '../engine/engine.ts'
import { changeError, HenceError, thrownText } from '../failure.ts'
import { keepTrying } from '../keep-trying.ts'
import { type Reporter, reporterOf } from '../report.ts'

/** A message of another system. */
export interface SourceMessage<M> {
  /**
   * Where it is there, for example `2:1041`: visible ASCII without spaces. A repeated delivery has the same
   * place, and no other message ever has it.
   */
  readonly place: string
  /** Messages of one key become requests one after another, in their order. Default: all have one key. */
  readonly key?: string | undefined
  readonly message: M
}

export interface SourcePage<M> {
  /** In order; empty if there are none yet. */
  readonly messages: readonly SourceMessage<M>[]
  /** The position after them. */
  readonly position: string | undefined
}

/** Reads the messages of another system, page by page. Whatever it throws is reported, and tried again later. */
export interface SourceFeed<M> {
  /** Returns the position that was kept last; undefined: the beginning. Called first, and after each failure. */
  position(): Promise<string | undefined>
  pull(position: string | undefined, signal: AbortSignal): Promise<SourcePage<M>>
  /**
   * Keeps a position, once everything before it is decided. It may be lost, and the messages delivered again:
   * that changes nothing, and takes time.
   */
  keep(position: string): Promise<void>
}

/** A request that is made of a message. */
export type SourceRequest<A extends App> = {
  readonly [N in RequestName<A>]: {
    readonly type: N
    readonly input: RequestInput<A, N>
    /** Default: the empty string. */
    readonly principal?: string | undefined
    /** Instead of the key of the message; see `SourceMessage`. */
    readonly key?: string | undefined
  }
}[RequestName<A>]

/** The options that all sources have. */
export interface SourceSettings<A extends App, M> {
  readonly engine: Engine<A>
  /**
   * Makes a request of a message; undefined: the message asks for none. It must always make the same of the
   * same message. A message that it throws for is reported, and skipped.
   */
  request(message: M): SourceRequest<A> | undefined
  /** How many requests are in flight at a time. Default 256. */
  readonly atOnce?: number
  /** The pause after a page without messages, in milliseconds. */
  readonly pollMs?: number
  readonly report?: Reporter
}

export interface SourceOptions<A extends App, M> extends SourceSettings<A, M> {
  /** Begins the id of each request: `NAME/PLACE`. Never change it: the messages would count as others. */
  readonly name: string
  readonly feed: SourceFeed<M>
  readonly clock?: Clock
}

export interface Source {
  stats(): SourceStats
  /** Resolves when it has stopped. Requests in flight are decided all the same. */
  close(): Promise<void>
}

export interface SourceStats {
  /** Everything before it is decided, or was refused. Undefined: the beginning, or not known yet. */
  readonly position: string | undefined
  /** Messages since the start whose requests have an outcome, also one of an earlier delivery. */
  readonly decided: number
  /** Messages since the start that can never become requests. */
  readonly refused: number
}

const pollMsDefault = 1_000
const delayMsMin = 100
const delayMsMax = 10_000
const placesShown = 20

/**
 * Makes requests of the messages of another system, each with effect once: the id of a request is the place
 * of its message, so that a message that is delivered again changes nothing. The position is kept once a page
 * is decided; a start goes on there.
 *
 * A request that the engine does not take now is sent again, and holds up its key alone. A message that can
 * never become a request is reported (`source-refused`), counted and skipped.
 *
 * Ids that carry no time are kept for ever, so a message is known however late it comes again.
 * @throws HenceError `option-invalid` (change)
 */
export function source<A extends App, M>(options: SourceOptions<A, M>): Source {
  const relay = new SourceRelay(options as unknown as SourceOptions<App, M>, `The source "${options.name}"`)
  const stopping = new AbortController()
  const { signal } = stopping
  const { clock = systemClock, feed } = options
  const ended = keepTrying({
    ...{ name: relay.title, code: 'source-held-up', report: reporterOf(options.report), signal, clock },
    run: (working) => relay.run(feed, signal, working),
  })
  return {
    stats: () => relay.stats(),
    close() {
      stopping.abort()
      return ended
    },
  }
}

/** The work of a source: from a feed to the engine, until it is stopped. */
export class SourceRelay<M> {
  /** The subject of reports. */
  readonly title: string
  readonly #options: Omit<SourceOptions<App, M>, 'feed'>
  readonly #report: Reporter
  readonly #clock: Clock
  #position: string | undefined
  #decided = 0
  #refused = 0
  /** The last reason for which requests had to wait that was reported. */
  #heldUpBy = ''

  constructor(options: Omit<SourceOptions<App, M>, 'feed'>, title: string) {
    const { name, atOnce = 1, pollMs = 1, report, clock = systemClock } = options
    for (const [option, value] of Object.entries({ atOnce, pollMs })) {
      if (!Number.isInteger(value) || value < 1)
        throw changeError('option-invalid', `\`${option}\` must be a positive integer, not ${value}.`)
    }
    if (!/^[\x21-\x7e]{1,100}$/.test(name))
      throw changeError('option-invalid', 'The name of a source has 1 to 100 visible ASCII characters.')
    this.title = title
    this.#options = options
    this.#report = reporterOf(report)
    this.#clock = clock
  }

  stats(): SourceStats {
    return { position: this.#position, decided: this.#decided, refused: this.#refused }
  }

  /** @param working called after each page */
  async run(feed: SourceFeed<M>, signal: AbortSignal, working: () => void): Promise<void> {
    let position = await feed.position()
    while (!signal.aborted) {
      this.#position = position
      const { messages, position: next } = await feed.pull(position, signal)
      await this.#decide(messages, signal)
      if (signal.aborted) return
      if (next !== undefined && next !== position) await feed.keep(next)
      position = next
      working()
      if (messages.length === 0) await pause(this.#clock, this.#options.pollMs ?? pollMsDefault, signal)
    }
  }

  /** Resolves when each message has an outcome or is refused, or the signal aborts. */
  async #decide(messages: readonly SourceMessage<M>[], signal: AbortSignal): Promise<void> {
    const byKey = new Map<string | undefined, [place: string, request: SourceRequest<App>][]>()
    const refused: [place: string, error: unknown][] = []
    for (const { place, key: ofMessage, message } of messages) {
      try {
        const request = this.#options.request(message)
        if (request === undefined) continue
        if (isSystemMessage(request.type)) throw new Error(`the app defines no request "${request.type}"`)
        const key = request.key ?? ofMessage
        if (!byKey.has(key)) byKey.set(key, [])
        byKey.get(key)!.push([place, request])
      } catch (error) {
        refused.push([place, error])
      }
    }
    const keys = byKey.values()
    const some = async () => {
      // All of them take from one iterator.
      for (const requests of keys) {
        for (const [place, request] of requests) {
          const error = await this.#submit(place, request, signal)
          if (error !== undefined) refused.push([place, error])
        }
      }
    }
    const { atOnce = 256 } = this.#options
    await orAborted(Promise.all(Array.from({ length: Math.min(atOnce, byKey.size) }, some)), signal)
    this.#reportRefused(refused)
  }

  /** @returns why it can never be accepted; undefined if it is decided, or the signal aborted */
  async #submit(
    place: string,
    { type, input, principal = '' }: SourceRequest<App>,
    signal: AbortSignal,
  ): Promise<HenceError | undefined> {
    const requestId = `${this.#options.name}/${place}`
    for (let delayMs = delayMsMin; !signal.aborted; delayMs = Math.min(2 * delayMs, delayMsMax)) {
      try {
        await this.#options.engine.submit(type, input as never, { requestId, principal })
        this.#decided++
        this.#heldUpBy = ''
        return
      } catch (error) {
        if (error instanceof HenceError && error.advice === 'change') return error
        if (!signal.aborted) this.#heldUp(error)
        await pause(this.#clock, delayMs * (0.5 + Math.random() / 2), signal)
      }
    }
    return
  }

  #reportRefused(refused: readonly [place: string, error: unknown][]): void {
    if (refused.length === 0) return
    this.#refused += refused.length
    const places = refused.slice(0, placesShown).map(([place]) => place)
    const message =
      `${this.title} skips messages that can never become requests (${refused.length}): ${places.join(', ')}` +
      `${refused.length > placesShown ? ', …' : ''}. The first: ${thrownText(refused[0]![1])}`
    this.#report({ level: 'alarm', code: 'source-refused', message })
  }

  /** Reports an outage once, however many requests it affects. */
  #heldUp(error: unknown): void {
    const why = thrownText(error)
    if (why === this.#heldUpBy) return
    this.#heldUpBy = why
    const message = `${this.title}: requests wait, and are sent again later: ${why}`
    this.#report({ level: 'warning', code: 'source-held-up', message })
  }
}
