import { onAbort } from '../clock.ts'
import { type Advice, changeError, HenceError, operatorError, retryError, thrownText } from '../failure.ts'
import { Turns } from './turns.ts'

export interface ExchangeOptions {
  /**
   * Where the server is mounted: absolute, or relative to the page. Several, if several processes follow one
   * log: the one that is active is found, and asked until it is not.
   */
  readonly url: string | readonly string[]
  /** An API key; read before every try, so that a new one takes effect. */
  readonly key?: string | (() => string | Promise<string>) | undefined
  /** Further headers, for example a token against cross-site requests. */
  readonly headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>)
  readonly fetch?: typeof globalThis.fetch
  /**
   * How long to wait for an answer, in milliseconds. Default 30,000. With several addresses an answer must
   * begin within 5,000, or another process is asked: one that hangs is not waited for.
   */
  readonly timeoutMs?: number
  /**
   * With several addresses: how old rows may be, in milliseconds. With 0, the default, only the active
   * process answers reads; with more, also a standby that follows it as closely.
   */
  readonly ageMsMax?: number
  /** The bytes of an answer that are read at most, after decompression. Default 64 MiB. */
  readonly answerBytesMax?: number
}

export type HeaderFields = Readonly<Record<string, string>>

export interface HttpCall {
  readonly method?: 'GET' | 'POST'
  /** Path below the mount, with its query. */
  readonly path: string
  readonly headers?: HeaderFields
  readonly body?: string
  readonly signal?: AbortSignal | undefined
}

/** An answer, read to its end. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: Headers
  /** The JSON value; undefined if there was none. */
  readonly body: unknown
}

/** How many calls are asked at once: more would cost connections, of which a server has so many. */
const askedMax = 512
/** How soon an answer must begin where another process may be active, in milliseconds. */
const beginsMsMax = 5_000

/** One request and its answer over HTTP. It tries once; callers decide what an answer means. */
export class Exchange {
  readonly #urls: readonly string[]
  #current = 0
  readonly #options: ExchangeOptions
  readonly #turns = new Turns(askedMax)
  /** How far the server's clock is ahead of this one, in milliseconds; negative if it is behind. */
  aheadMs = 0

  constructor(options: ExchangeOptions) {
    this.#urls = [options.url].flat().map(baseOf)
    if (this.#urls.length === 0) throw noAddress(undefined)
    this.#options = options
  }

  /** @throws HenceError `server-unreachable` (retry) if no complete answer came; `answer-too-large` (operator) */
  async ask(call: HttpCall): Promise<HttpAnswer> {
    await this.#turns.take()
    const late = new AbortController()
    const stop = () => late.abort()
    const { timeoutMs = 30_000 } = this.#options
    let waitMs = this.#urls.length === 1 ? timeoutMs : Math.min(timeoutMs, beginsMsMax)
    let timer = setTimeout(stop, waitMs)
    const url = this.#url
    const forget = onAbort(call.signal, stop)
    try {
      const response = await this.#fetch({ ...call, signal: late.signal }, url)
      clearTimeout(timer)
      waitMs = timeoutMs
      timer = setTimeout(stop, waitMs)
      return await this.read(response, url)
    } catch (error) {
      if (error instanceof HenceError) throw error
      throw this.#unreachable(url, late.signal.aborted ? `no answer within ${waitMs} ms` : error)
    } finally {
      this.#turns.ended()
      clearTimeout(timer)
      forget()
    }
  }

  /**
   * Reads an answer to its end, up to the bound: a few bytes may decompress to gigabytes.
   * @throws HenceError `answer-too-large` (operator), and the errors of the platform
   */
  async read(response: Response, url = this.#url): Promise<HttpAnswer> {
    const { status, headers, body } = response
    const { answerBytesMax = 64 * 1024 * 1024 } = this.#options
    // React Native has no streams in answers.
    const reader = body?.getReader()
    const decoder = new TextDecoder()
    let text = ''
    let bytes = 0
    for (;;) {
      const value = (await reader?.read())?.value
      if (value === undefined) break
      bytes += value.byteLength
      if (bytes > answerBytesMax) {
        await reader?.cancel().catch(() => {})
        throw tooLarge(url, answerBytesMax)
      }
      text += decoder.decode(value, { stream: true })
    }
    text += reader ? decoder.decode() : await response.text()
    return this.#orNext({ status, headers, body: jsonOf(text) }, url)
  }

  /** Learns from an answer how far the clocks differ; less than a minute is no difference. */
  learn(answer: HttpAnswer, now: number): void {
    const aheadMs = Date.parse(answer.headers.get('date') ?? '') - now
    // Nothing on the way may set a device's clock.
    const { token } = fieldsOf(answer.body)
    if (Number.isNaN(aheadMs) || (problemOf(answer) === undefined && typeof token !== 'string')) return
    this.aheadMs = Math.abs(aheadMs) < 60_000 ? 0 : aheadMs
  }

  /** Opens an endless answer; the caller reads it and ends it by the signal. */
  async open(call: HttpCall): Promise<Response> {
    const url = this.#url
    const late = new AbortController()
    const signal = AbortSignal.any([late.signal, ...(call.signal ? [call.signal] : [])])
    const timer = this.#urls.length > 1 ? setTimeout(() => late.abort(), beginsMsMax) : undefined
    try {
      return await this.#fetch({ ...call, signal }, url)
    } catch (error) {
      throw this.#unreachable(url, late.signal.aborted ? `no answer within ${beginsMsMax} ms` : error)
    } finally {
      clearTimeout(timer)
    }
  }

  get #url(): string {
    return this.#urls[this.#current % this.#urls.length]!
  }

  /** After this the next address is asked, unless another call has passed over this one already. */
  #passOver(url: string): void {
    if (url === this.#url) this.#current++
  }

  #unreachable(url: string, why: unknown): HenceError {
    this.#passOver(url)
    const cause = thrownText(why instanceof Error && why.cause instanceof Error ? why.cause : why)
    const message = `No complete answer came from ${url}: ${cause}. The server may or may not have acted.`
    return retryError('server-unreachable', message, { cause: why })
  }

  /** Passes over a process that is not active; another one can be asked without waiting. */
  #orNext(answer: HttpAnswer, url: string): HttpAnswer {
    const code = problemOf(answer)?.code
    if (this.#urls.length === 1 || !notActive.includes(code!)) return answer
    this.#passOver(url)
    const headers = new Headers(answer.headers)
    headers.delete('retry-after')
    return { ...answer, headers }
  }

  async #fetch({ method = 'GET', path, headers, body, signal }: HttpCall, url: string): Promise<Response> {
    const { key, headers: own, fetch = globalThis.fetch, ageMsMax = 0 } = this.#options
    const bearer = typeof key === 'function' ? await key() : key
    const fields = typeof own === 'function' ? await own() : own
    return fetch(`${url}${path}`, {
      method,
      headers: {
        accept: 'application/json, application/problem+json',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(this.#urls.length > 1 && method === 'GET' && { 'hence-age-max': `${ageMsMax}` }),
        ...fields,
        ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
        ...headers,
      },
      // A redirected POST would arrive as a GET, and the key is meant for this address alone.
      redirect: 'error',
      ...(body !== undefined && { body }),
      ...(signal && { signal }),
    })
  }
}

/** The error in a problem document (RFC 9457) of Hence; undefined for any other answer. */
export function problemOf({ body }: Pick<HttpAnswer, 'body'>): HenceError | undefined {
  const { code, advice, detail, title } = fieldsOf(body)
  if (typeof code !== 'string' || !advices.includes(advice as Advice)) return undefined
  return new HenceError(code, advice as Advice, String(detail ?? title ?? code))
}

export const fieldsOf = (body: unknown): Readonly<Record<string, unknown>> =>
  typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {}

const advices: readonly Advice[] = ['retry', 'change', 'operator']

/** Thrown when the answer is not one of a working Hence server. */
export const notUnderstood = ({ status }: Pick<HttpAnswer, 'status'>) =>
  retryError(
    'answer-not-understood',
    `Something answered with status ${status} that does not speak as a Hence server does: a proxy, a login page of a ` +
      'network, or another address than the one that Hence is mounted at. Nothing follows from it; try again.',
  )

/** The error that pending calls reject with when a client or connection closes. */
export const closed = () =>
  retryError(
    'client-closed',
    'The client is closed. Stored requests stay in its outbox, and the next client on the same outbox sends ' +
      'them; over a connection, send the same request, with the same id, again.',
  )

/** No Hence server can silence a client for longer than this, in milliseconds. */
const askedMsMax = 60 * 60 * 1000
/** Nor can anything else on the way, which may know nothing of the server: a proxy, the page of a network. */
const foreignMsMax = 5 * 60 * 1000

/** The wait that an answer asks for, in milliseconds; undefined if none. */
export function retryAfterMs(answer: Pick<HttpAnswer, 'headers' | 'body'>, now: number): number | undefined {
  const asked = answer.headers.get('retry-after')
  if (asked === null) return undefined
  const ms = /^\d+$/.test(asked) ? Number(asked) * 1000 : Date.parse(asked) - now
  const most = problemOf(answer) === undefined ? foreignMsMax : askedMsMax
  return Number.isNaN(ms) ? undefined : Math.min(most, Math.max(0, ms))
}

/** The codes of a process that is not active, or may not be, since it cannot reach the log. */
const notActive = [
  ...['engine-closed', 'engine-standby', 'engine-starting', 'engine-stopped', 'engine-unsure', 'log-taken'],
  ...['carrier-unreachable', 'log-write-failed', 'log-write-unsure', 'server-closing', 'writes-held-up'],
]

function baseOf(url: string): string {
  try {
    const { href } = new URL(url, (globalThis as { location?: { href: string } }).location?.href)
    return href.replace(/[?#].*$/, '').replace(/\/$/, '')
  } catch {
    throw noAddress(url)
  }
}

const noAddress = (url: unknown) =>
  changeError(
    'option-invalid',
    `\`url\` must be the address that Hence is mounted at, or several, not ${JSON.stringify(url)}; outside a ` +
      'browser it must be whole.',
  )

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const tooLarge = (url: string, bytesMax: number) =>
  operatorError(
    'answer-too-large',
    `The answer of ${url} is longer than ${bytesMax} bytes, so it was not read. Is that the address of Hence? If the ` +
      'answer is meant to be so long, raise `answerBytesMax`.',
  )
