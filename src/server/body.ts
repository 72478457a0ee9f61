import { HenceError } from '../failure.ts'
import { parseStrict, textOf } from './json.ts'
import { flawIn, type JsonSchema } from './json-schema.ts'
import type { Limits } from './limits.ts'

/** Bodies up to this length are not counted: there are no more of them than connections. */
const shortBytes = 16 * 1024

/** Reads bodies, with bounds on the bytes of each, on the bytes of all, and on time. */
export class BodyReader {
  readonly #limits: Limits
  readonly #deadlines = new Deadlines()
  #bytes = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** @throws HenceError `body-too-large` (change); `body-too-slow`, `body-cut-off`, `overloaded` (retry) */
  async whole(request: Request): Promise<Uint8Array> {
    const { bodyBytes, bodyMs } = this.#limits
    const declared = request.headers.get('content-length')
    if (declared !== null && Number(declared) > bodyBytes) throw tooLarge(bodyBytes)
    // The HTTP parser enforces a declared length, so a short body can be read at once.
    if (declared !== null && Number(declared) <= shortBytes) {
      return new Uint8Array(await this.#deadlines.inTime(request.arrayBuffer(), bodyMs))
    }
    const parts: Uint8Array[] = []
    let bytes = 0
    const deadline = performance.now() + bodyMs
    try {
      for await (const part of this.parts(request, () => deadline - performance.now())) {
        bytes += part.length
        this.#bytes += part.length
        if (bytes > bodyBytes) throw tooLarge(bodyBytes)
        if (this.#bytes > this.#limits.bodiesBytes) throw overloaded(this.#limits.bodiesBytes)
        parts.push(part)
      }
    } finally {
      this.#bytes -= bytes
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  /**
   * A JSON body of one of Hence's own routes, checked against its schema. It is required even if it is `{}`: a request
   * without a body needs no media type; see `checkMediaType`.
   * @throws HenceError as `whole`, and `media-type-unsupported`, `json-invalid`, `body-invalid` (change)
   */
  async json(request: Request, schema: JsonSchema): Promise<unknown> {
    checkMediaType(request.headers.get('content-type'), /^application\/json *(;|$)/i, 'application/json')
    const body = parseStrict(textOf(await this.whole(request)))
    const flaw = flawIn(schema, body)
    if (flaw === undefined) return body
    throw new HenceError(
      'body-invalid',
      'change',
      `The body does not fit its schema in /openapi.json: ${flaw}.`,
    )
  }

  /**
   * The parts of a body as they arrive.
   * @param patienceMs how long the next part may take
   * @param signal ends the body when it aborts
   */
  async *parts(request: Request, patienceMs: () => number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const { body } = request
    if (body === null) return
    const reader = (body as ReadableStream<Uint8Array>).getReader()
    const leave = () => void reader.cancel().catch(() => {})
    signal?.addEventListener('abort', leave)
    try {
      for (;;) {
        const { done, value } = await this.#deadlines.inTime(reader.read(), patienceMs())
        if (done) return
        yield value
      }
    } finally {
      // A body left early is not read to its end: the connection may be closed.
      leave()
      signal?.removeEventListener('abort', leave)
    }
  }
}

/**
 * Ends waits that take too long, to the nearest second. One timer serves all: most bodies arrive with their head, and a
 * timer for each would cost more than reading it.
 */
class Deadlines {
  readonly #waits = new Set<{ readonly until: number; reject(error: HenceError): void }>()
  #timer: NodeJS.Timeout | undefined

  inTime<T>(reading: Promise<T>, ms: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const wait = { until: performance.now() + ms, reject }
      this.#waits.add(wait)
      this.#timer ??= setInterval(() => this.#check(), Math.min(1_000, ms)).unref()
      reading.then(
        (value) => {
          this.#waits.delete(wait)
          resolve(value)
        },
        (error) => {
          this.#waits.delete(wait)
          reject(truncatePartition(error))
        },
      )
    })
  }

  #check(): void {
    const now = performance.now()
    for (const wait of this.#waits) {
      if (wait.until > now) continue
      this.#waits.delete(wait)
      wait.reject(tooSlow())
    }
    if (this.#waits.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

/**
 * Also keeps a page of another origin from sending requests with the user's cookies: forms and simple scripts cannot
 * send such a media type, so the browser must ask first (a CORS preflight).
 * @throws HenceError `media-type-unsupported` (change)
 */
export function checkMediaType(header: string | null, form: RegExp, name: string): void {
  if (header !== null && form.test(header)) return
  throw new HenceError(
    'media-type-unsupported',
    'change',
    `The body must have the media type ${name}, not ${header ?? 'none'}: send the header Content-Type.`,
  )
}

function tooLarge(bytes: number): HenceError {
  return new HenceError(
    'body-too-large',
    'change',
    `The body has more than ${bytes} bytes, the limit. Keep large content elsewhere and its hash here, or send a batch.`,
  )
}

function tooSlow(): HenceError {
  return new HenceError(
    'body-too-slow',
    'retry',
    'The body did not arrive in time. Nothing was written: send the same request again.',
  )
}

function truncatePartition(cause: unknown): HenceError {
  return new HenceError(
    'body-cut-off',
    'retry',
    'The connection ended before the body did. Nothing was written: send the same request again.',
    { cause },
  )
}

function overloaded(bytes: number): HenceError {
  return new HenceError(
    'overloaded',
    'retry',
    `More than ${bytes} bytes of bodies are arriving, the limit. Nothing was written: send the same request again a little later.`,
  )
}
