import type { TableChange } from '../app/index.ts'
import { HenceError } from '../failure.ts'
import type { Changes } from '../query/reader.ts'
import type { Answer } from './answer.ts'
import type { KeyPartsParameter, Parameter } from './parameter.ts'
import { problemOf, unforeseen } from './problem.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

/**
 * `GET /changes?table=…`: changed rows of those tables, or of all that the caller may read, as server-sent events,
 * record by record. The id of an event is the position behind it, so a client that returns with `Last-Event-ID` (or
 * `?from=`) misses nothing.
 *
 *   event: open     first; its id is the position to resume from if nothing else has been received
 *   event: changes  data: a JSON list of changes
 *   event: problem  the stream cannot continue; data: the problem
 *
 * The engine reads changes from its store, so a slow client costs no memory; a client that reads nothing is cut off.
 */
export class ChangeStreams {
  readonly #serving: Serving
  #open = 0

  constructor(serving: Serving) {
    this.#serving = serving
  }

  get open(): number {
    return this.#open
  }

  async start({ request, caller, query }: Arrival<ChangesQuery>): Promise<Answer> {
    const { engine, limits, rules } = this.#serving
    const { table: named, prefix = [] } = query
    for (const table of named) rules.watch(caller, table)
    // A promotion may change the tables of the app while the stream is open.
    const isAsked = (table: string) =>
      named.length > 0 ? named.includes(table) : engine.app.tables.has(table)
    if (this.#open >= limits.streams) throw tooManyStreams(limits.streams)
    this.#open++
    const ended = new AbortController()
    const end = () => {
      this.#open--
      ended.abort()
    }
    const from = request.headers.get('last-event-id') ?? query.from ?? engine.position()
    const feed = engine.changes({ from, signal: ended.signal })[Symbol.asyncIterator]()
    const first = feed.next()
    // A position that is no longer kept fails at once, while the answer can still have a status.
    try {
      await Promise.race([first, new Promise(setImmediate)])
    } catch (error) {
      end()
      throw error
    }
    const visible = rules.changes(caller, 'watch')
    const select = ({ changes }: Changes): TableChange[] =>
      changes.flatMap((change) => {
        if (!isAsked(change.table) || !prefix.every((part, i) => change.key[i] === part)) return []
        return visible(change) ?? []
      })
    const stream = new Stream(this.#serving, feed, first, select, end)
    return {
      status: 200,
      headers: {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      },
      body: stream.readable(from),
    }
  }
}

type ChangesQuery = {
  readonly table: Parameter<readonly string[]>
  readonly prefix: KeyPartsParameter
  readonly from: Parameter<string | undefined>
}

class Stream {
  readonly #serving: Serving
  readonly #feed: AsyncIterator<Changes>
  readonly #first: Promise<IteratorResult<Changes>>
  readonly #select: (changes: Changes) => TableChange[]
  readonly #end: () => void
  readonly #encoder = new TextEncoder()
  #controller!: ReadableStreamDefaultController<Uint8Array>
  #room: PromiseWithResolvers<void> | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #isOver = false

  constructor(
    serving: Serving,
    feed: AsyncIterator<Changes>,
    first: Promise<IteratorResult<Changes>>,
    select: (changes: Changes) => TableChange[],
    end: () => void,
  ) {
    this.#serving = serving
    this.#feed = feed
    this.#first = first
    this.#select = select
    this.#end = end
  }

  readable(from: string): ReadableStream<Uint8Array> {
    const { closing, limits } = this.#serving
    const close = () => this.#over()
    closing.addEventListener('abort', close, { once: true })
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller
          this.#write(`id: ${from}\nevent: open\ndata: {}\n\n`)
          this.#heartbeat = setInterval(() => {
            if (this.#room === undefined) this.#write(': here\n\n')
          }, limits.heartbeatMs)
          this.#heartbeat.unref()
          void this.#run().finally(() => closing.removeEventListener('abort', close))
          if (closing.aborted) close()
        },
        pull: () => {
          this.#room?.resolve()
          this.#room = undefined
        },
        cancel: () => this.#over(),
      },
      { highWaterMark: 16 * 1024, size: (chunk) => chunk?.length ?? 0 },
    )
  }

  async #run(): Promise<void> {
    try {
      for (let next = await this.#first; !next.done && !this.#isOver; next = await this.#feed.next()) {
        const changes = this.#select(next.value)
        if (changes.length === 0) continue
        this.#write(`id: ${next.value.position}\nevent: changes\ndata: ${JSON.stringify(changes)}\n\n`)
        await this.#drained()
      }
    } catch (error) {
      if (error === stalled) return this.#over(stalled)
      const problem = problemOf(error instanceof HenceError ? error : unforeseen())
      this.#write(`event: problem\ndata: ${JSON.stringify(problem)}\n\n`)
    }
    this.#over()
  }

  #write(text: string): void {
    if (!this.#isOver) this.#controller.enqueue(this.#encoder.encode(text))
  }

  /** Waits until the client has read, and cuts off a client that does not. */
  async #drained(): Promise<void> {
    if (this.#isOver || (this.#controller.desiredSize ?? 0) > 0) return
    this.#room ??= Promise.withResolvers()
    const { promise, reject } = this.#room
    const timer = setTimeout(() => reject(stalled), this.#serving.limits.stalledMs)
    await promise.finally(() => clearTimeout(timer))
  }

  #over(error?: Error): void {
    if (this.#isOver) return
    this.#isOver = true
    clearInterval(this.#heartbeat)
    this.#room?.resolve()
    this.#end()
    try {
      if (error) this.#controller.error(error)
      else this.#controller.close()
    } catch {
      // The reader has left already.
    }
  }
}

const stalled = new Error('The client of a stream reads nothing.')

function tooManyStreams(max: number): HenceError {
  return new HenceError(
    'too-many-streams',
    'retry',
    `${max} streams of changes are open, the limit. Try again later.`,
  )
}
