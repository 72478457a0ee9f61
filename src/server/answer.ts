import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { pipeline, Readable } from 'node:stream'
import type { AskedRequest } from './asked.ts'

/** The answer of a route. On Node no `Response` is made of it, which would cost more than the request. */
export interface Answer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | ReadableStream<Uint8Array> | null
}

export function responseOf({ status, headers, body }: Answer): Response {
  return new Response(body, { status, headers })
}

/** Writes an answer to Node's response. A stream that fails, or whose client has left, ends the connection. */
export function writeAnswer(outgoing: ServerResponse, answer: Answer): void {
  // The client has left: a body without a reader would end the process by its error.
  if (outgoing.destroyed) return void drop(answer)
  const { status, headers, body } = answer
  if (!outgoing.req.complete) outgoing.once('finish', () => endUnread(outgoing))
  if (typeof body === 'string') {
    outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
  } else if (body === null) {
    outgoing.writeHead(status, headers).end()
  } else {
    outgoing.writeHead(status, headers).flushHeaders()
    pipeline(Readable.fromWeb(body as never), outgoing, () => {})
  }
}

/** Gives up the body of an answer that is not sent. */
export function drop({ body }: Answer): null {
  if (body instanceof ReadableStream) void body.cancel().catch(() => {})
  return null
}

/** How long the rest of an unread body may still arrive, in milliseconds. */
const lingerMs = 100

/** Not at once: a client that is still sending would see the broken connection and not read the answer. */
function endUnread({ req }: ServerResponse): void {
  // Input that came while the thread was held up is read before.
  setTimeout(() => setImmediate(() => req.complete || req.socket.destroy()), lingerMs).unref()
}

type Headers = Readonly<Record<string, string>>

/** JSON that no cache may keep. */
export function freshAnswer(body: unknown, headers: Headers = {}, status = 200): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
    body: JSON.stringify(body),
  }
}

/** JSON with an ETag; 304 if the client has it already. */
export function jsonAnswer(request: AskedRequest, body: unknown): Answer {
  return jsonTextAnswer(request, JSON.stringify(body))
}

export function jsonTextAnswer(request: AskedRequest, text: string): Answer {
  const etag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
  // Rows depend on the caller and change at any time, so a cache must ask again.
  const headers = { etag, 'cache-control': 'private, no-cache', vary: 'authorization, cookie' }
  if (matches(request.headers.get('if-none-match'), etag)) return { status: 304, headers, body: null }
  return { status: 200, headers: { 'content-type': 'application/json', ...headers }, body: text }
}

function matches(header: string | null, etag: string): boolean {
  if (header === null) return false
  return header.split(',').some((each) => {
    const one = each.trim()
    return one === '*' || one === etag || one === `W/${etag}`
  })
}
