import type { IncomingMessage, ServerResponse } from 'node:http'
import { changeError } from '../failure.ts'

/** The part of a `Request` that the server reads. */
export interface AskedRequest {
  readonly method: string
  /** Absolute. */
  readonly url: string
  readonly headers: Pick<Headers, 'get'> & Partial<Pick<Headers, 'keys'>>
  /** Aborted when the client has left. */
  readonly signal: AbortSignal
  /** Null on Node, where it is read from Node's own request. */
  readonly body: ReadableStream<Uint8Array> | null
}

// Others are made usual by `URL`: dot segments go, for example, and what has to be is percent-encoded.
const usualTarget = /^\/(?!.*\/\.\.?(?:[/?#]|$))[!#$&-;=?-[\]_a-z~]*$/
const usualHost = /^[a-z0-9._-]+(?::[1-9]\d{3,4})?$/

/** A request of Node's own server. Neither a `Request` nor copies of headers are made, unless a host asks. */
export class AskedOfNode implements AskedRequest {
  readonly method: string
  readonly url: string
  readonly body = null
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  #leaving: AbortController | undefined
  #request: Request | undefined

  /** @throws HenceError `url-invalid` (change) */
  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.method = incoming.method ?? 'GET'
    this.url = urlOf(incoming.url ?? '', this.get('host') ?? this.get(':authority') ?? '')
  }

  get headers(): this {
    return this
  }

  /** As `Headers` does: one that was sent several times is joined. */
  get(name: string): string | null {
    const wanted = name.toLowerCase()
    const { rawHeaders } = this.#incoming
    let found: string | null = null
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const sent = rawHeaders[i]!
      if (sent.length !== wanted.length || (sent !== wanted && sent.toLowerCase() !== wanted)) continue
      const value = rawHeaders[i + 1]!
      // Servers disagree on which of two Host fields counts: a proxy may have checked the other.
      if (found !== null && wanted === 'host') throw badAddress()
      found = found === null ? value : `${found}${wanted === 'cookie' ? ';' : ','} ${value}`
    }
    return found
  }

  get signal(): AbortSignal {
    if (this.#leaving === undefined) {
      const leaving = new AbortController()
      const outgoing = this.#outgoing
      const left = () => {
        if (!outgoing.writableFinished) leaving.abort()
      }
      if (outgoing.closed) left()
      else outgoing.once('close', left)
      this.#leaving = leaving
    }
    return this.#leaving.signal
  }

  /** Without its body. */
  whole(): Request {
    if (this.#request === undefined) {
      const headers = new Headers()
      const { rawHeaders } = this.#incoming
      for (let i = 0; i < rawHeaders.length; i += 2)
        if (!rawHeaders[i]!.startsWith(':')) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!)
      this.#request = new Request(this.url, { method: this.method, headers, signal: this.signal })
    }
    return this.#request
  }
}

function urlOf(target: string, host: string): string {
  if (usualHost.test(host) && usualTarget.test(target)) return `http://${host}${target}`
  const url = URL.parse(target.startsWith('/') ? `http://${host}${target}` : target)
  const isOfHost = !target.startsWith('/') || url?.hostname === host.replace(/:\d+$/, '').toLowerCase()
  // `URL` takes a backslash for a slash.
  if (url === null || !/^https?:$/.test(url.protocol) || !isOfHost || target.split('?', 1)[0]!.includes('\\'))
    throw badAddress()
  return url.href
}

const badAddress = () => changeError('url-invalid', 'The address or the header Host is invalid.')
