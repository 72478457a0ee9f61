import { HenceError } from '../failure.ts'
import type { Limits } from './limits.ts'

/** Bodies so short are not counted: there are no more of them than connections. */
const shortBytes = 16 * 1024

/** Reads bodies, within bounds on each, on all together, and on time. */
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
    // A declared length is kept by the HTTP parser, so a short body can be read in one go.
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
   * The parts of a body as they arrive.
   * @param patienceMs how long the next part may take
   * @param signal ends the body where it is when it aborts
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
      // Left early, the rest is of no use: whoever carries the connection may end it.
      leave()
      signal?.removeEventListener('abort', leave)
    }
  }
}

/**
 * Ends waits that take too long, to the nearest second: one timer for all, since most bodies come with their head, and a
 * timer for each would cost more than reading them.
 */
class Deadlines {
  readonly #waits = new Set<{ readonly until: number; reject(error: HenceError): void }>()
  #timer: NodeJS.Timeout | undefined

  inTime<T>(reading: Promise<T>, ms: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const wait = { until: performance.now() + ms, reject }
      this.#waits.add(wait)
      this.#timer ??= setInterval(() => this.#look(), Math.min(1_000, ms)).unref()
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

  #look(): void {
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
