import type { ServerResponse } from 'node:http'
import { pipeline, Readable } from 'node:stream'

/**
 * What a route answers. It becomes a `Response` for hosts that speak `fetch`; under Node its parts go out as they
 * are, since a `Response` in between would cost more than the request did.
 */
export interface Answer {
  readonly status: number
  /** Names in small letters. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | ReadableStream<Uint8Array> | null
}

export function responseOf({ status, headers, body }: Answer): Response {
  return new Response(body, { status, headers })
}

/** Writes an answer to Node's response. A stream that fails, or whose reader has gone, ends the connection. */
export function writeAnswer(outgoing: ServerResponse, { status, headers, body }: Answer): void {
  if (typeof body === 'string') {
    outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
  } else if (body === null) {
    outgoing.writeHead(status, headers).end()
  } else {
    outgoing.writeHead(status, headers).flushHeaders()
    pipeline(Readable.fromWeb(body as never), outgoing, () => {})
  }
}
