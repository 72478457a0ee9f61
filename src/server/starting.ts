import type { IncomingMessage, ServerResponse } from 'node:http'
import type { StartProgress } from '../engine/start-pause.ts'
import { retryError } from '../failure.ts'
import { type Answer, writeAnswer } from './answer.ts'
import { type Limits, limitsOf } from './limits.ts'
import { Listener, type Listening } from './listen.ts'
import { problemAnswer, problemOf } from './problem.ts'

type Handle = (request: IncomingMessage, response: ServerResponse) => void

interface StandbyServer {
  readonly node: Handle
  close(): Promise<void>
}

/** How long requests wait for a standby that takes the log, in milliseconds; and how many. */
const heldMs = 1_000
const heldMax = 10_000

/**
 * Listens while an engine starts: requests get 503 with how far the start is, and `/livez` says that the
 * process lives. `Server.listen` takes the open listener over, so no connection is refused in between. A
 * standby that takes the log is ready in a moment: requests wait for that.
 */
export class StartingServer {
  readonly #listener: Listener
  #problem = starting('')
  /** Serves reads while another process is active. */
  #standby: StandbyServer | undefined
  #follows: string | undefined
  /** Requests that wait; undefined: none are to. */
  #held: Parameters<Handle>[] | undefined
  #release: NodeJS.Timeout | undefined

  constructor(limits: Partial<Limits> = {}) {
    this.#listener = new Listener((request, response) => {
      const isLive = request.url === '/livez' && (request.method === 'GET' || request.method === 'HEAD')
      if (isLive) writeAnswer(response, live)
      else if (this.#held && this.#held.length < heldMax) this.#held.push([request, response])
      else this.#answer(request, response)
    }, limitsOf(limits))
  }

  /** @throws HenceError `listen-failed` (operator) */
  listen(port: number, host: string): Promise<Listening> {
    return this.#listener.open(host, port)
  }

  progress({ derived, of, follows }: StartProgress): void {
    const progress = `${derived} of ${of} records are derived.`
    this.#problem = follows === undefined ? starting(` ${progress}`) : standby(follows, progress)
    // Another process may be first after all.
    if (follows !== undefined) this.#handleHeld(this.#answer)
    else if (this.#follows !== undefined) {
      this.#held = []
      this.#release = setTimeout(() => {
        this.serve(undefined)
        this.#handleHeld(this.#answer)
      }, heldMs)
    }
    this.#follows = follows
  }

  /** Serves the reads of a standby while this process follows the log. */
  serve(standby: StandbyServer | undefined): void {
    void this.#standby?.close()
    this.#standby = standby
  }

  /** Lets another handle the requests, also those that wait. */
  handOver(handle: Handle): Listener {
    this.serve(undefined)
    this.#listener.handleBy(handle)
    this.#handleHeld(handle)
    return this.#listener
  }

  readonly #answer: Handle = (request, response) => {
    if (this.#standby) this.#standby.node(request, response)
    else writeAnswer(response, problemAnswer(problemOf(this.#problem)))
  }

  #handleHeld(handle: Handle): void {
    clearTimeout(this.#release)
    const held = this.#held ?? []
    this.#held = undefined
    for (const [request, response] of held) handle(request, response)
  }

  async close(): Promise<void> {
    this.serve(undefined)
    this.#handleHeld(this.#answer)
    this.#listener.stop()
    await this.#listener.end(0)
  }
}

const live: Answer = { status: 200, headers: { 'content-type': 'text/plain' }, body: 'live\n' }

const standby = (follows: string, progress: string) =>
  retryError(
    'engine-standby',
    `This process follows the log, and ${follows} is active. ${progress} Nothing was written: send the same ` +
      'request there.',
  )

const starting = (progress: string) =>
  retryError(
    'engine-starting',
    `The engine is starting.${progress} Nothing was written: send the same request again a little later.`,
  )
