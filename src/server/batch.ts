import { setTimeout as pause } from 'node:timers/promises'
import type { Outcome } from '../app/index.ts'
import { changeError, HenceError, retryError, shown } from '../failure.ts'
import { parseStrict, textOf } from '../json.ts'
import type { Access } from './access.ts'
import type { Answer } from './answer.ts'
import { type Arriving, checkMediaType, Gathered, overloaded, type Sender } from './body.ts'
import { type Problem, problemOf, problemOfOutcome, unforeseen } from './problem.ts'
import { cameByProxy } from './proxy.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { Shares } from './shares.ts'
import { checkMaySend } from './submit.ts'
import { streamAnswer } from './text-stream.ts'

/** `POST /requests`: batches of requests, of which each caller has a share. */
export function batchesOf(serving: Serving) {
  const { activity, limits } = serving
  const open = new Shares(limits.batches, limits.batchesPerCaller)
  const lines = /^application\/(x-ndjson|ndjson|jsonl|x-jsonlines) *(;|$)/i
  return {
    get open(): number {
      return open.held
    },
    async start({ request, access, incoming }: Arrival): Promise<Answer> {
      checkMediaType(request.headers.get('content-type'), lines, 'application/x-ndjson')
      const { principal } = access.caller
      if (!open.take(principal))
        throw retryError(
          'too-many-batches',
          'As many batches are open as the server or your share of it allows. Nothing was read: send the batch again later.',
        )
      activity.begin()
      const batch = new RequestBatch(serving, access, { request, incoming, principal })
      if (cameByProxy(request, incoming)) await batch.arrived()
      const onEnd = () => {
        batch.end()
        open.release(principal)
        activity.end()
      }
      return streamAnswer(limits, 'application/x-ndjson', () => batch.outcomes(), onEnd)
    },
  }
}

/** Outcomes that are ready together are sent together, up to about this many characters. */
const textMax = 64 * 1024

/** A line under way. */
interface BatchLine {
  /** Resolves when `text` is set. */
  readonly answered: Promise<void>
  text: string | undefined
  /** The bytes counted for it: those of the line, then those of its answer. */
  bytes: number
}

/** Answers up to this length are kept in any case: `batchInFlight` bounds them. */
const shortAnswer = 1024

/**
 * Takes one request a line, and sends one outcome a line, in the order of the lines, while the body is still
 * arriving. So many lines are under way at once as `batchInFlight` and the caller's share of bytes allow;
 * then reading pauses. How long an outcome is shows only when the line is decided: in the place of one
 * without room stands `overloaded`, and its request may be sent again.
 *
 * Proxies such as nginx stop passing a body on when the answer begins. So through a proxy the answer begins
 * when the body has arrived; if the outcomes fill the caller's share of bytes earlier, the batch ends there.
 */
class RequestBatch {
  readonly #serving: Serving
  readonly #access: Access
  readonly #sender: Sender
  readonly #lines: BatchLine[] = []
  /** The beginning of the line that is arriving. */
  readonly #partial: Gathered
  /** When the batch, and the line that is arriving, must have arrived, as `performance.now()`. */
  readonly #last: number
  #lineUntil = Number.POSITIVE_INFINITY
  #isFirstLine = true
  #isRead = false
  #reading: Promise<void> | undefined
  /** Lines that are not decided. */
  #undecided = 0
  /** Whether outcomes are sent while the body arrives. */
  #isSending = true
  /** Aborts when no more outcomes are sent. */
  readonly #over = new AbortController()
  /** Resolves when a line was added, removed or decided, or the body or the batch has ended. */
  #moved = Promise.withResolvers<void>()

  constructor(serving: Serving, access: Access, sender: Sender) {
    this.#serving = serving
    this.#access = access
    this.#sender = sender
    this.#partial = new Gathered(serving.bodies.held, sender.principal)
    this.#last = performance.now() + serving.limits.batchMs
  }

  async *outcomes(): AsyncGenerator<string> {
    this.#isSending = true
    this.#reading ??= this.#read()
    try {
      for (let text = await this.#next(); text !== ''; text = await this.#next()) {
        if (!this.#access.isCurrent) await this.#access.renew()
        yield text
      }
    } catch (error) {
      yield `${JSON.stringify(problemLine(undefined, error))}\n`
    } finally {
      this.end()
      await this.#reading
    }
  }

  /** Takes all lines before any outcome is sent. */
  async arrived(): Promise<void> {
    this.#isSending = false
    this.#reading = this.#read()
    await this.#reading
  }

  /** The next outcomes; empty after the last. */
  async #next(): Promise<string> {
    const isWaiting = () => (this.#lines.length === 0 ? !this.#isRead : this.#lines[0]!.text === undefined)
    while (isWaiting() && !this.#isOver) await this.#moved.promise
    let text = ''
    let taken = 0
    for (; this.#lines[taken]?.text !== undefined && text.length < textMax; taken++) {
      text += `${this.#lines[taken]!.text}\n`
    }
    for (const line of this.#lines.splice(0, taken)) this.#count(line, 0)
    this.#move()
    return text
  }

  async #read(): Promise<void> {
    const { bodies, closing } = this.#serving
    const stop = AbortSignal.any([closing, this.#over.signal])
    try {
      const take = (part: Uint8Array, arriving: Arriving) => this.#takePart(part, arriving)
      await bodies.parts(this.#sender, this.#until(), take, stop)
      if (closing.aborted) throw closingSoon()
      await this.#takeLine(this.#partial.bytes)
    } catch (error) {
      const text = JSON.stringify(problemLine(undefined, error))
      this.#lines.push({ answered: Promise.resolve(), text, bytes: 0 })
    } finally {
      this.#isRead = true
      this.#partial.clear()
      this.#move()
    }
  }

  /** When the next part must have arrived. */
  #until(): number {
    return Math.min(this.#last, this.#lineUntil, performance.now() + this.#serving.limits.bodyMs)
  }

  /** Takes the lines that end in a part, from a position on, and keeps the rest. */
  #takePart(part: Uint8Array, arriving: Arriving, from = 0): void | Promise<void> {
    // The rest of a part whose lines waited while the client left.
    if (!this.#isTaking) return
    const { bodyMs } = this.#serving.limits
    let start = from
    for (let end = part.indexOf(10, start); end !== -1; end = part.indexOf(10, start)) {
      const taken = this.#takeLine(this.#lineWith(part.subarray(start, end)))
      start = end + 1
      if (taken === undefined) continue
      // A client that waits for outcomes is not late, unless the whole batch is.
      arriving.until = this.#last
      return taken.then(() => this.#takePart(part, arriving, start))
    }
    if (start < part.length) {
      if (this.#partial.length === 0) this.#lineUntil = performance.now() + bodyMs
      this.#keep(part.subarray(start))
    }
    arriving.until = this.#until()
  }

  /** The line that ends with these bytes. */
  #lineWith(rest: Uint8Array): Uint8Array {
    this.#lineUntil = Number.POSITIVE_INFINITY
    const isWhole = this.#partial.length === 0 && rest.length <= this.#serving.limits.bodyBytes
    if (isWhole) return rest
    this.#keep(rest)
    const line = this.#partial.bytes
    this.#partial.clear()
    return line
  }

  #keep(bytes: Uint8Array): void {
    const { bodyBytes } = this.#serving.limits
    if (this.#partial.length + bytes.length > bodyBytes) throw lineTooLong(bodyBytes)
    this.#partial.add(bytes)
  }

  /** Takes a line at once if there is room for it and its sender is known to be current; else when that is so. */
  #takeLine(bytes: Uint8Array): void | Promise<void> {
    const line = this.#isFirstLine ? withoutByteOrderMark(bytes) : bytes
    this.#isFirstLine = false
    if (isBlank(line) || !this.#isTaking) return
    if (!this.#access.isCurrent || !this.#hasRoom(line.length)) return this.#takeLater(line)
    this.#start(line)
  }

  async #takeLater(line: Uint8Array): Promise<void> {
    while (!this.#hasRoom(line.length)) {
      if (!this.#isTaking) return
      if (this.#waiting === 0) throw overloaded()
      await this.#moved.promise
    }
    await this.#access.renew()
    if (this.#isTaking) this.#start(line)
  }

  #hasRoom(bytes: number): boolean {
    const { bodies, limits } = this.#serving
    return this.#waiting < limits.batchInFlight && bodies.held.hasRoom(this.#sender.principal, bytes)
  }

  /** Lines that keep others from being taken for a while: until they are sent or, if none is sent yet, decided. */
  get #waiting(): number {
    return this.#isSending ? this.#lines.length : this.#undecided
  }

  #start(bytes: Uint8Array): void {
    const before = this.#lines.at(-1)?.answered
    const answered = decide(this.#serving, this.#access, bytes, before).then((answer) => {
      this.#undecided--
      if (this.#isOver) return
      const text = JSON.stringify(answer)
      line.text = this.#keeps(line, text) ? text : JSON.stringify(problemLine(answer.requestId, noRoom()))
      this.#count(line, line.text.length)
      if (!this.#isSending || line === this.#lines[0]) this.#move()
    })
    this.#undecided++
    const line: BatchLine = { answered, text: undefined, bytes: 0 }
    this.#count(line, bytes.length)
    this.#lines.push(line)
    if (this.#lines.length === 1) this.#move()
  }

  /** Whether an answer has room until it is sent. That of the oldest line always has, so the batch goes on. */
  #keeps(line: BatchLine, { length }: string): boolean {
    if (length <= shortAnswer || line === this.#lines[0]) return true
    return this.#serving.bodies.held.hasRoom(this.#sender.principal, Math.max(0, length - line.bytes))
  }

  #count(line: BatchLine, bytes: number): void {
    const { held } = this.#serving.bodies
    const { principal } = this.#sender
    if (bytes > line.bytes) held.add(principal, bytes - line.bytes)
    else held.release(principal, line.bytes - bytes)
    line.bytes = bytes
  }

  /** Whether lines are still taken. The bytes of one that is taken later would stay counted for good. */
  get #isTaking(): boolean {
    return !this.#isRead && !this.#isOver
  }

  get #isOver(): boolean {
    return this.#over.signal.aborted
  }

  /** No more outcomes are sent; lines that were taken are decided all the same. */
  end(): void {
    if (this.#isOver) return
    this.#over.abort()
    for (const line of this.#lines.splice(0)) this.#count(line, 0)
    this.#move()
  }

  #move(): void {
    this.#moved.resolve()
    this.#moved = Promise.withResolvers()
  }
}

function isBlank(line: Uint8Array): boolean {
  return line.length < 8 && line.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)
}

/** A byte order mark is no part of the first line: some programs write one at the beginning of every file. */
function withoutByteOrderMark(line: Uint8Array): Uint8Array {
  return line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf ? line.subarray(3) : line
}

const lineTooLong = (bytes: number) =>
  changeError(
    'body-too-large',
    `A line of the batch has more than ${bytes} bytes, the limit. The lines before it were taken; it and ` +
      'those after it were not.',
  )

const noRoom = () =>
  retryError(
    'overloaded',
    'The request is decided, and your share of bytes has no room for its outcome. Read the outcomes before it, then ' +
      'send it again.',
  )

export const closingSoon = () =>
  retryError(
    'server-closing',
    'The server is closing. Send the same request again: the next server gives the same answer.',
  )

type LineAnswer = { readonly requestId: string | undefined } & (
  | {
      readonly status: 'accepted'
      readonly value: unknown
      readonly token: string
      readonly replayed: boolean
      readonly corrected: Outcome | undefined
    }
  | { readonly status: 'problem'; readonly problem: Problem }
)

/** Submits the request of a line; waits for an engine that is overloaded. */
async function decide(
  { engine, closing }: Serving,
  access: Access,
  line: Uint8Array,
  before: Promise<void> | undefined,
): Promise<LineAnswer> {
  let requestId: string | undefined
  try {
    const request = parseStrict(textOf(line))
    checkLine(request)
    requestId = request.requestId
    const { type, input, inReplyTo } = request
    checkMaySend(access.caller, type)
    const { principal } = access.caller
    for (;;) {
      try {
        const reply = await engine.submit(type as never, input as never, { requestId, principal, inReplyTo })
        if (reply.status !== 'accepted') {
          return { requestId: reply.requestId, status: 'problem', problem: problemOfOutcome(reply) }
        }
        const { status, value, token, replayed, corrected } = reply
        return { requestId: reply.requestId, status, value, token, replayed, corrected }
      } catch (error) {
        if (!(error instanceof HenceError && error.code === 'overloaded') || closing.aborted) throw error
        // Once the line before is decided there is room; if there is none, other callers fill the engine.
        if (before === undefined) await pause(10)
        await before
        before = undefined
        checkMaySend(await access.renew(), type)
      }
    }
  } catch (error) {
    return problemLine(requestId, error)
  }
}

function problemLine(requestId: string | undefined, error: unknown): LineAnswer {
  return {
    requestId: requestId && shown(requestId, 255),
    status: 'problem',
    problem: problemOf(error instanceof HenceError ? error : unforeseen()),
  }
}

interface Line {
  readonly requestId: string
  readonly type: string
  readonly input: unknown
  readonly inReplyTo?: string
}

function checkLine(value: unknown): asserts value is Line {
  const { requestId, type, inReplyTo, ...rest } = (value ?? {}) as Record<string, unknown>
  const names = Object.keys(rest)
  const fits =
    typeof requestId === 'string' &&
    typeof type === 'string' &&
    (inReplyTo === undefined || typeof inReplyTo === 'string') &&
    names.length === 1 &&
    names[0] === 'input'
  if (fits) return
  throw changeError(
    'line-invalid',
    'A line of a batch must be an object with `requestId` and `type`, both text, and `input`; it may have ' +
      '`inReplyTo`, an id, and no other members.',
  )
}
