import { setTimeout as pause } from 'node:timers/promises'
import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { allows, type Caller } from './caller.ts'
import { parseStrict, textOf } from './json.ts'
import { type Problem, problemOf, problemOfOutcome, unforeseen } from './problem.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'
import { checkMediaType } from './submit.ts'

/** The outcome of one line. */
type Told = { readonly requestId: string | undefined } & (
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
 * the body is still arriving. So after a cut the number of outcomes says where to go on, though sending lines again
 * does no harm. A line that is refused stops nothing.
 *
 * Many lines are under way at once, up to a bound; then no more is read until the oldest is decided, and an
 * overloaded engine is waited for. So an importer may send as fast as it can, as long as it reads what comes back.
 */
export function batch(serving: Serving, caller: Caller, request: Request): Answer {
  checkMediaType(
    request.headers.get('content-type'),
    /^application\/(x-ndjson|ndjson|jsonl|x-jsonlines) *(;|$)/i,
    'application/x-ndjson',
  )
  const outcomes = run(serving, caller, request)
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await outcomes.next()
      if (done) controller.close()
      else controller.enqueue(encoder.encode(value))
    },
    // A client that has gone: what it sent is decided all the same.
    async cancel() {
      await outcomes.return(undefined)
    },
  })
  return {
    status: 200,
    headers: { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' },
    body,
  }
}

/** Outcomes that are ready together go out together. */
const textMax = 64 * 1024

async function* run(serving: Serving, caller: Caller, request: Request): AsyncGenerator<string> {
  const { batchInFlight } = serving.limits
  const waiting: Promise<Told>[] = []
  /** How many of the oldest have been decided. */
  let decided = 0
  serving.activity.begin()
  const send = (line: Uint8Array) => {
    const before = waiting[waiting.length - 1]
    const told = decide(serving, caller, line, before)
    waiting.push(told)
    void told.then(() => decided++)
  }
  const oldest = async () => {
    const told = await waiting.shift()!
    decided--
    return `${JSON.stringify(told)}\n`
  }
  try {
    for await (const lines of linesOf(serving, request)) {
      let text = ''
      for (const line of lines) {
        while (waiting.length >= batchInFlight) text += await oldest()
        send(line)
        while (decided > 0 && waiting.length > 0 && text.length < textMax) text += await oldest()
      }
      if (text !== '') yield text
      // The engine gets a turn between two parts of a body, or all would be read before the first is decided.
      else await pause(0)
    }
    while (waiting.length > 0) {
      let text = await oldest()
      while (waiting.length > 0 && decided > 0 && text.length < textMax) text += await oldest()
      yield text
    }
  } catch (error) {
    while (waiting.length > 0) yield await oldest()
    const told = error instanceof HenceError ? error : unforeseen()
    yield `${JSON.stringify({ status: 'problem', problem: problemOf(told) })}\n`
  } finally {
    serving.activity.end()
  }
}

async function decide(
  { engine, closing }: Serving,
  caller: Caller,
  line: Uint8Array,
  before: Promise<unknown> | undefined,
): Promise<Told> {
  let requestId: string | undefined
  try {
    const wish = parseStrict(textOf(line))
    checkLine(wish)
    requestId = wish.requestId
    const { type, input } = wish
    if (!allows(caller, `submit:${type}`)) throw notAllowed(`submit:${type}`, 'this line')
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
        await before
        await pause(10)
      }
    }
  } catch (error) {
    return {
      requestId,
      status: 'problem',
      problem: problemOf(error instanceof HenceError ? error : unforeseen()),
    }
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
    'A line of a batch must be an object with `requestId` and `type`, both text, and `input`, and nothing else.',
  )
}

/** The lines of a body, those of each part together; empty ones are left out. */
async function* linesOf(serving: Serving, request: Request): AsyncGenerator<Uint8Array[]> {
  const { bodyBytes, bodyMs } = serving.limits
  let rest: Uint8Array[] = []
  let restBytes = 0
  const join = (end: Uint8Array): Uint8Array => {
    if (restBytes + end.length > bodyBytes) throw lineTooLong(bodyBytes)
    const line = rest.length === 0 ? end : Buffer.concat([...rest, end])
    rest = []
    restBytes = 0
    return line
  }
  for await (const part of serving.bodies.parts(request, () => bodyMs)) {
    if (serving.closing.aborted) throw closingSoon()
    const lines: Uint8Array[] = []
    let from = 0
    for (let end = part.indexOf(10); end !== -1; end = part.indexOf(10, from)) {
      const line = join(part.subarray(from, end))
      if (!isBlank(line)) lines.push(line)
      from = end + 1
    }
    if (from < part.length) {
      rest.push(part.subarray(from))
      restBytes += part.length - from
      if (restBytes > bodyBytes) throw lineTooLong(bodyBytes)
    }
    yield lines
  }
  const last = join(new Uint8Array())
  if (!isBlank(last)) yield [last]
}

function isBlank(line: Uint8Array): boolean {
  return line.length < 8 && line.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)
}

function lineTooLong(bytes: number): HenceError {
  return new HenceError(
    'body-too-large',
    'change',
    `A line of the batch has more than ${bytes} bytes, the limit. The lines before it were taken; nothing after it was.`,
  )
}

export function closingSoon(): HenceError {
  return new HenceError(
    'server-closing',
    'retry',
    'The server is closing. Send the same request again: the next one gives the same answer.',
  )
}
