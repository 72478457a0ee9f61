import type { IncomingMessage } from 'node:http'
import { onAbort } from '../clock.ts'
import { changeError, type HenceError, retryError } from '../failure.ts'
import { parseStrict, textOf } from '../json.ts'
import type { AskedRequest } from './asked.ts'
import { flawIn, type JsonSchema } from './json-schema.ts'
import type { Limits } from './limits.ts'
import { Shares } from './shares.ts'

export interface Sender {
  readonly request: AskedRequest
  readonly incoming: IncomingMessage | undefined
  readonly principal: string
}

/** Reads bodies. Every byte of them that is in memory is counted here, for all callers and for each. */
export class BodyReader {
  readonly held: Shares
  readonly #limits: Limits
  readonly #deadlines = new Deadlines()

  constructor(limits: Limits) {
    this.#limits = limits
    this.held = new Shares(limits.bodiesBytes, limits.bodiesBytesPerCaller)
  }

  async #whole(sender: Sender): Promise<Uint8Array> {
    const { bodyBytes, bodyMs } = this.#limits
    const declared = Number(sender.request.headers.get('content-length'))
    if (declared > bodyBytes) throw tooLarge(bodyBytes)
    const gathered = new Gathered(this.held, sender.principal)
    try {
      await this.parts(sender, performance.now() + bodyMs, (part) => {
        if (gathered.length + part.length > bodyBytes) throw tooLarge(bodyBytes)
        // Node lets no more arrive than was declared.
        gathered.add(part, sender.incoming !== undefined && part.length === declared)
      })
      return gathered.bytes
    } finally {
      gathered.clear()
    }
  }

  /** A JSON body, required even if it is `{}`: a request without a body needs no media type. */
  async json(sender: Sender, form = /^application\/json *(;|$)/i): Promise<unknown> {
    checkMediaType(sender.request.headers.get('content-type'), form, 'application/json')
    return parseStrict(textOf(await this.#whole(sender)))
  }

  /** A JSON body of one of Hence's own routes, checked against its schema. */
  async checked(sender: Sender, schema: JsonSchema): Promise<unknown> {
    const body = await this.json(sender)
    const flaw = flawIn(schema, body)
    if (flaw === undefined) return body
    throw changeError('body-invalid', `The body does not fit its schema in /openapi.json: ${flaw}.`)
  }

  /**
   * Passes on the parts of a body as they arrive; resolves at its end.
   * @param until when to give up, as `performance.now()`; `take` may move it
   * @param take may return a promise: then no more arrives until that resolves. It must copy what it keeps
   */
  async parts(
    { request, incoming }: Sender,
    until: number,
    take: (part: Uint8Array, arriving: Arriving) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const encoding = request.headers.get('content-encoding')
    if (encoding !== null && encoding.toLowerCase() !== 'identity')
      throw changeError(
        'encoding-unsupported',
        `The body has the content encoding ${encoding}, and none is supported: send it without one.`,
      )
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const arriving: Arriving = { until, reject }
    const forget = signal && onAbort(signal, resolve)
    this.#deadlines.add(arriving)
    const takePart = (part: Uint8Array) => take(part, arriving)
    const stop = incoming
      ? fromNode(incoming, takePart, resolve, reject)
      : fromStream(request.body, takePart, resolve, reject)
    try {
      await promise
    } finally {
      stop()
      this.#deadlines.delete(arriving)
      forget?.()
    }
  }
}

export interface Arriving {
  /** When it is given up, as `performance.now()`. */
  until: number
  reject(error: HenceError): void
}

/** Reads Node's request itself: a `Request` would queue every part by itself, and a part may be one byte. */
function fromNode(
  incoming: IncomingMessage,
  take: (part: Uint8Array) => void | Promise<void>,
  resolve: () => void,
  reject: (error: unknown) => void,
): () => void {
  let taken: void | Promise<void>
  const onData = (part: Buffer) => {
    try {
      taken = take(part)
      if (taken === undefined) return
      incoming.pause()
      taken.then(() => incoming.resume(), reject)
    } catch (error) {
      reject(error)
    }
  }
  // A paused stream ends all the same if its last part was waiting in it.
  const onEnd = () => (taken === undefined ? resolve() : void taken.then(resolve, reject))
  const onClose = () => (incoming.complete ? onEnd() : reject(cutOff(incoming.errored)))
  if (incoming.destroyed) onClose()
  // The others stay: the first to settle counts, and errors of what is left concern nobody.
  incoming.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose)
  return () => {
    // Bytes that nobody has read would reset the connection, and the client might lose the answer.
    if (!incoming.readableEnded) incoming.off('data', onData).resume()
  }
}

function fromStream(
  body: ReadableStream<Uint8Array> | null,
  take: (part: Uint8Array) => void | Promise<void>,
  resolve: () => void,
  reject: (error: unknown) => void,
): () => void {
  if (body === null) {
    resolve()
    return () => {}
  }
  const reader = body.getReader()
  let isStopped = false
  const read = async () => {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw cutOff(error)
      })
      if (isStopped) return
      if (done) return resolve()
      const taken = take(value)
      if (taken !== undefined) await taken
    }
  }
  void read().catch(reject)
  return () => {
    isStopped = true
    void reader.cancel().catch(() => {})
  }
}

const nothing = new Uint8Array()

/** Parts of a body, copied together, since a part of one byte may keep a large block of memory alive. */
export class Gathered {
  readonly #held: Shares
  readonly #principal: string
  #buffer: Uint8Array = nothing
  length = 0

  constructor(held: Shares, principal: string) {
    this.#held = held
    this.#principal = principal
  }

  /**
   * @param isAll it is the whole body: then it is kept as it is
   * @throws HenceError `overloaded` (retry); then nothing was added
   */
  add(part: Uint8Array, isAll = false): void {
    const needed = this.length + part.length
    if (needed > this.#buffer.length) {
      const size = Math.max(needed, Math.min(2 * this.#buffer.length, this.#buffer.length + 1024 * 1024))
      if (!this.#held.take(this.#principal, size - this.#buffer.length)) throw overloaded()
      const larger = isAll ? part : Buffer.allocUnsafeSlow(size)
      if (!isAll) larger.set(this.bytes)
      this.#buffer = larger
    }
    if (!isAll) this.#buffer.set(part, this.length)
    this.length = needed
  }

  /** Valid until more is added. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.length)
  }

  clear(): void {
    this.#held.release(this.#principal, this.#buffer.length)
    this.#buffer = nothing
    this.length = 0
  }
}

/** Ends waits that take too long, to the second. One timer serves all: one each would cost too much. */
class Deadlines {
  readonly #waits = new Set<Arriving>()
  #timer: NodeJS.Timeout | undefined

  add(wait: Arriving): void {
    this.#waits.add(wait)
    const ms = wait.until - performance.now()
    this.#timer ??= setInterval(() => this.#check(), Math.max(1, Math.min(1_000, ms))).unref()
  }

  delete(wait: Arriving): void {
    this.#waits.delete(wait)
  }

  #check(): void {
    const now = performance.now()
    for (const wait of this.#waits) {
      if (wait.until <= now) wait.reject(tooSlow())
    }
    if (this.#waits.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

/** Pages of other origins cannot send such a type, so none sends a request with the user's cookies. */
export function checkMediaType(header: string | null, form: RegExp, name: string): void {
  const isUtf8 = /^(?!.*;\s*charset\s*=(?!\s*(utf-8|"utf-8")\s*(;|$)))/i
  if (header !== null && form.test(header) && isUtf8.test(header)) return
  throw changeError(
    'media-type-unsupported',
    `The body must have the media type ${name}, in UTF-8, not ${header ?? 'none'}: send the header Content-Type.`,
  )
}

const tooLarge = (bytes: number) =>
  changeError(
    'body-too-large',
    `The body has more than ${bytes} bytes, the limit. Keep large content elsewhere and its hash here, or ` +
      'send a batch.',
  )

const tooSlow = () =>
  retryError(
    'body-too-slow',
    'The body did not arrive in time. Nothing was written: send the same request again.',
  )

const cutOff = (cause: unknown) =>
  retryError(
    'body-cut-off',
    'The connection ended before the body did. Nothing was written: send the same request again.',
    { cause },
  )

export const overloaded = () =>
  retryError(
    'overloaded',
    'More bytes of bodies are arriving than the server or your share of it holds. Nothing was written: send the same ' +
      'request again a little later.',
  )
