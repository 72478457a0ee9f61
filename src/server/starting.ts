import type { IncomingMessage, ServerResponse } from 'node:http'
import type { StartProgress } from '../engine/start-pause.ts'
import { retryError } from '../failure.ts'
import { type Answer, writeAnswer } from './answer.ts'
import { type Limits, limitsOf } from './limits.ts'
import { Listener, type Listening } from './listen.ts'
import { problemAnswer, problemOf } from './problem.ts'

interface StandbyServer {
  node(request: IncomingMessage, response: ServerResponse): void
  close(): Promise<void>
}

/**
 * Listens while an engine starts: every request gets 503 with how far the start is, and `/livez` says that
 * the process lives. `Server.listen` takes the open listener over, so no connection is refused in between.
 */
export class StartingServer {
  readonly #listener: Listener
  #problem = starting('')
  /** Serves reads while another process is active. */
  #standby: StandbyServer | undefined

  constructor(limits: Partial<Limits> = {}) {
    this.#listener = new Listener((request, response) => {
      if (this.#standby) return this.#standby.node(request, response)
      const isLive = request.url === '/livez' && (request.method === 'GET' || request.method === 'HEAD')
      writeAnswer(response, isLive ? live : problemAnswer(problemOf(this.#problem)))
    }, limitsOf(limits))
  }

  /** @throws HenceError `listen-failed` (operator) */
  listen(port: number, host: string): Promise<Listening> {
    return this.#listener.open(host, port)
  }

  progress({ derived, of, follows }: StartProgress): void {
    const progress = `${derived} of ${of} records are derived.`
    this.#problem = follows === undefined ? starting(` ${progress}`) : standby(follows, progress)
    if (follows === undefined) this.serve(undefined)
  }

  /** Serves the reads of a standby while this process follows the log. */
  serve(standby: StandbyServer | undefined): void {
    void this.#standby?.close()
    this.#standby = standby
  }

  handOver(): Listener {
    this.serve(undefined)
    return this.#listener
  }

  async close(): Promise<void> {
    this.serve(undefined)
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
