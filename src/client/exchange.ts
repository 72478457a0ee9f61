import { type Advice, HenceError } from '../failure.ts'

export interface ExchangeOptions {
  /** Where the server is mounted: absolute, or relative to the page. */
  readonly url: string
  /** An API key; read before every try, so that a new one takes effect. */
  readonly key?: string | (() => string | Promise<string>)
  /** Further headers, for example a token against cross-site requests. */
  readonly headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>)
  readonly fetch?: typeof globalThis.fetch
  /** How long to wait for an answer, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number
}

export type HeaderFields = Readonly<Record<string, string>>

export interface Call {
  readonly method?: 'GET' | 'POST'
  /** Path below the mount, with its query. */
  readonly path: string
  readonly headers?: HeaderFields
  readonly body?: string
  readonly signal?: AbortSignal | undefined
}

/** An answer, read to its end. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** The JSON value; undefined if there was none. */
  readonly body: unknown
}

/** One request and its answer over HTTP. It tries once; callers decide what an answer means. */
export class Exchange {
  readonly #url: string
  readonly #options: ExchangeOptions
  readonly #timeoutMs: number

  /** @throws HenceError `option-invalid` (change) for an address that fetch could not use */
  constructor(options: ExchangeOptions) {
    this.#url = baseOf(options.url)
    this.#options = options
    this.#timeoutMs = options.timeoutMs ?? 30_000
  }

  /** @throws HenceError `server-unreachable` (retry) if no complete answer came */
  async ask(call: Call): Promise<Answer> {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), this.#timeoutMs)
    const stop = () => late.abort()
    call.signal?.addEventListener('abort', stop)
    if (call.signal?.aborted) stop()
    try {
      const response = await this.#fetch({ ...call, signal: late.signal })
      const text = await response.text()
      return { status: response.status, headers: response.headers, body: jsonOf(text) }
    } catch (error) {
      throw unreachable(this.#url, late.signal.aborted ? `no answer within ${this.#timeoutMs} ms` : error)
    } finally {
      clearTimeout(timer)
      call.signal?.removeEventListener('abort', stop)
    }
  }

  /**
   * Opens an endless answer; the caller reads it and ends it by the signal.
   * @throws HenceError `server-unreachable` (retry)
   */
  async open(call: Call): Promise<Response> {
    try {
      return await this.#fetch(call)
    } catch (error) {
      throw unreachable(this.#url, error)
    }
  }

  async #fetch({ method = 'GET', path, headers, body, signal }: Call): Promise<Response> {
    const { key, headers: own, fetch = globalThis.fetch } = this.#options
    const bearer = typeof key === 'function' ? await key() : key
    const fields = typeof own === 'function' ? await own() : own
    return fetch(`${this.#url}${path}`, {
      method,
      headers: {
        accept: 'application/json, application/problem+json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...fields,
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...headers,
      },
      // A redirected POST would arrive as a GET, and the key is meant for this address alone.
      redirect: 'error',
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    })
  }
}

/** The error in a problem document (RFC 9457) of Hence; undefined for any other answer. */
export function problemOf({ body }: Pick<Answer, 'body'>): HenceError | undefined {
  if (typeof body !== 'object' || body === null) return undefined
  const { code, advice, detail, title } = body as Record<string, unknown>
  if (typeof code !== 'string' || !advices.includes(advice as Advice)) return undefined
  return new HenceError(code, advice as Advice, String(detail ?? title ?? code))
}

const advices: readonly Advice[] = ['retry', 'change', 'operator']

/** Thrown when the answer is not one of a working Hence server. */
export function notUnderstood({ status }: Pick<Answer, 'status'>): HenceError {
  return new HenceError(
    'answer-not-understood',
    'retry',
    `Something answered with status ${status} that does not speak as a Hence server does: a proxy, a login page of a ` +
      'network, or another address than the one that Hence is mounted at. Nothing follows from it; try again.',
  )
}

/** The wait that the server asks for, in milliseconds; undefined if none. */
export function retryAfterMs({ headers }: Pick<Answer, 'headers'>, now: number): number | undefined {
  const asked = headers.get('retry-after')
  if (asked === null) return undefined
  const ms = /^\d+$/.test(asked) ? Number(asked) * 1000 : Date.parse(asked) - now
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined
}

function baseOf(url: string): string {
  try {
    const { href } = new URL(url, (globalThis as { location?: { href: string } }).location?.href)
    return href.replace(/[?#].*$/, '').replace(/\/$/, '')
  } catch {
    throw new HenceError(
      'option-invalid',
      'change',
      `\`url\` must be the address that Hence is mounted at, not ${JSON.stringify(url)}; outside a browser it must be whole.`,
    )
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function unreachable(url: string, why: unknown): HenceError {
  const cause = why instanceof Error && why.cause instanceof Error ? why.cause : why
  return new HenceError(
    'server-unreachable',
    'retry',
    `No whole answer came from ${url}: ${cause instanceof Error ? cause.message : cause}. Whether the server acted is not known.`,
    { cause: why },
  )
}
