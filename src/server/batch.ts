import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { checkMediaType } from './body.ts'
import type { Caller } from './caller.ts'
import { parseStrict, textOf } from './json.ts'
import { type Problem, problemOf, problemOfOutcome, unforeseen } from './problem.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { checkMaySend } from './submit.ts'

/** The answer to one line. */
type LineAnswer = { readonly requestId: string | undefined } & (
  | {
      readonly status: 'accepted'
      readonly value: unknown
      readonly token: string
      readonly replayed: boolean
    }
  | { readonly status: 'problem'; readonly problem: Problem }
)

/**
 * `POST /requests`: one request a line, `{ requestId, type, input }`; one outcome a line, in the order of the lines, while
 * the body is still arriving. After a broken connection the number of outcomes says where to continue, though sending
 * lines again does no harm. A refused line does not stop the batch.
 *
 * Up to `batchInFlight` lines are under way at once; then reading pauses until the oldest is decided. The batch waits for
 * an overloaded engine. So an importer may send as fast as it can, as long as it reads the outcomes.
 */
export function batch(serving: Serving, { request, caller }: Arrival): Answer {
  checkMediaType(
    request.headers.get('content-type'),
    /^application\/(x-ndjson|ndjson|jsonl|x-jsonlines) *(;|$)/i,
    'application/x-ndjson',
  )
  return {
    status: 200,
    headers: { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' },
    body: new Batch(serving, caller).run(request),
  }
}

/** Outcomes that are ready together are sent together, up to about this many characters. */
const textMax = 64 * 1024

/** A line under way. */
interface Line {
  readonly answer: Promise<LineAnswer>
  /** Set once `answer` has resolved. */
  ready: LineAnswer | undefined
}

class Batch {
  readonly #serving: Serving
  readonly #caller: Caller
  readonly #lines: Line[] = []
  #isRead = false
  #isLeft = false
  /** Resolves when a line was added or removed, or the body has ended. */
  #moved = Promise.withResolvers<void>()

  constructor(serving: Serving, caller: Caller) {
    this.#serving = serving
    this.#caller = caller
  }

  run(request: Request): ReadableStream<Uint8Array> {
    const { activity } = this.#serving
    activity.begin()
    const reading = this.#read(request).finally(() => {
      this.#isRead = true
      this.#move()
    })
    const encoder = new TextEncoder()
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const text = await this.#outcomes()
        if (text !== '') return controller.enqueue(encoder.encode(text))
        controller.close()
        activity.end()
      },
      // The client has left. The lines that it sent are decided all the same.
      cancel: async () => {
        this.#isLeft = true
        this.#move()
        await reading
        activity.end()
      },
    })
  }

  /** The next outcomes; empty after the last. */
  async #outcomes(): Promise<string> {
    while (this.#lines.length === 0 && !this.#isRead) await this.#moved.promise
    const first = this.#lines[0]
    if (first === undefined) return ''
    await first.answer
    let text = ''
    let taken = 0
    for (; this.#lines[taken]?.ready && text.length < textMax; taken++) {
      text += `${JSON.stringify(this.#lines[taken]!.ready)}\n`
    }
    this.#lines.splice(0, taken)
    this.#move()
    return text
  }

  /** Takes the lines of the body, never more than may be under way. */
  async #read(request: Request): Promise<void> {
    const { bodies, closing, limits } = this.#serving
    let rest: Uint8Array[] = []
    let restBytes = 0
    const keep = (part: Uint8Array) => {
      rest.push(part)
      restBytes += part.length
      if (restBytes > limits.bodyBytes) throw lineTooLong(limits.bodyBytes)
    }
    const join = (): Uint8Array => {
      const line = rest.length === 1 ? rest[0]! : Buffer.concat(rest)
      rest = []
      restBytes = 0
      return line
    }
    try {
      for await (const part of bodies.parts(request, () => limits.bodyMs, closing)) {
        if (this.#isLeft) return
        let from = 0
        for (let end = part.indexOf(10); end !== -1; end = part.indexOf(10, from)) {
          keep(part.subarray(from, end))
          this.#take(join())
          from = end + 1
          while (this.#lines.length >= limits.batchInFlight && !this.#isLeft) await this.#moved.promise
        }
        if (from < part.length) keep(part.subarray(from))
      }
      if (closing.aborted) throw closingSoon()
      this.#take(join())
    } catch (error) {
      const ready = problemLine(undefined, error)
      this.#lines.push({ answer: Promise.resolve(ready), ready })
    }
  }

  #take(text: Uint8Array): void {
    if (isBlank(text)) return
    const before = this.#lines.at(-1)?.answer
    const line: Line = { answer: decide(this.#serving, this.#caller, text, before), ready: undefined }
    void line.answer.then((answer) => {
      line.ready = answer
    })
    this.#lines.push(line)
    if (this.#lines.length === 1) this.#move()
  }

  #move(): void {
    this.#moved.resolve()
    this.#moved = Promise.withResolvers()
  }
}

async function decide(
  { engine, closing }: Serving,
  caller: Caller,
  line: Uint8Array,
  before: Promise<unknown> | undefined,
): Promise<LineAnswer> {
  let requestId: string | undefined
  try {
    const request = parseStrict(textOf(line))
    checkLine(request)
    requestId = request.requestId
    const { type, input } = request
    checkMaySend(caller, type)
    for (;;) {
      try {
        const reply = await engine.submit(type as never, input as never, {
          requestId,
          principal: caller.principal,
        })
        if (reply.status !== 'accepted') {
          return { requestId: reply.requestId, status: 'problem', problem: problemOfOutcome(reply) }
        }
        const { status, value, token, replayed } = reply
        return { requestId: reply.requestId, status, value, token, replayed }
      } catch (error) {
        if (!(error instanceof HenceError && error.code === 'overloaded') || closing.aborted) throw error
        // Once the line before is decided there is room again; if there is none, other callers fill the engine.
        if (before === undefined) await pause(10)
        await before
        before = undefined
      }
    }
  } catch (error) {
    return problemLine(requestId, error)
  }
}

function problemLine(requestId: string | undefined, error: unknown): LineAnswer {
  return {
    requestId,
    status: 'problem',
    problem: problemOf(error instanceof HenceError ? error : unforeseen()),
  }
}

function checkLine(value: unknown): asserts value is { requestId: string; type: string; input: unknown } {
  const { requestId, type, ...rest } = (value ?? {}) as Record<string, unknown>
  const names = Object.keys(rest)
  const fits =
    typeof requestId === 'string' && typeof type === 'string' && names.length === 1 && names[0] === 'input'
  if (fits) return
  throw new HenceError(
    'line-invalid',
    'change',
    'A line of a batch must be an object with `requestId` and `type`, both text, and `input`, and no other members.',
  )
}

function isBlank(line: Uint8Array): boolean {
  return line.length < 8 && line.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)
}

function lineTooLong(bytes: number): HenceError {
  return new HenceError(
    'body-too-large',
    'change',
    `A line of the batch has more than ${bytes} bytes, the limit. The lines before it were taken; it and those after it were not.`,
  )
}

export function closingSoon(): HenceError {
  return new HenceError(
    'server-closing',
    'retry',
    'The server is closing. Send the same request again: the next server gives the same answer.',
  )
}
