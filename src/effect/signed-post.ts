import type { IncomingMessage } from 'node:http'
import { Webhook } from 'standardwebhooks'
import { changeError, HenceError } from '../failure.ts'
import { type Connections, discard } from './connection.ts'

/** A JSON body and its receiver. */
interface SignedPost {
  readonly connections: Connections
  readonly address: URL
  readonly signers: readonly Webhook[]
  /** The same for every try, so that the receiver recognises it: `webhook-id` and `Idempotency-Key`. */
  readonly id: string
  readonly body: { readonly type: string; readonly timestamp: string; readonly data: unknown }
  readonly further?: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/**
 * Posts JSON, signed by Standard Webhooks; resolves to a 2xx answer, whose body the caller reads or discards.
 * Redirects are not followed.
 * @throws HenceError `effect-refused` (change) when the receiver refuses it for good, `address-not-allowed`
 *   (change); an Error, perhaps with `retryAfterMs`, when another try may succeed. No error contains a
 *   secret, nor more of the address than its host.
 */
export async function postSigned(post: SignedPost): Promise<IncomingMessage> {
  const { connections, address, signers, id, further, signal } = post
  const body = JSON.stringify(post.body)
  const now = new Date()
  let response: IncomingMessage
  try {
    const headers = new Headers(further)
    headers.set('content-type', 'application/json')
    headers.set('idempotency-key', id)
    headers.set('webhook-id', id)
    headers.set('webhook-timestamp', String(Math.floor(now.getTime() / 1000)))
    headers.set('webhook-signature', signers.map((signer) => signer.sign(id, now, body)).join(' '))
    response = await connections.post(address, headers, body, signal)
  } catch (error) {
    throw error instanceof HenceError ? error : noAnswer(address, error, signal)
  }
  const { statusCode: status = 0, headers } = response
  if (status >= 200 && status < 300) return response
  discard(response)
  throw refusal(status, headers['retry-after'], address)
}

/** Statuses that may differ at the next try; the rest of 4xx are refusals. */
const notRefused = new Set([
  408, // It took the receiver too long to read the request.
  409, // Another try under this id is being worked on.
  425, // It does not want to be replayed to so early.
  429, // It has too much to do.
])

/**
 * Parses the address of a webhook.
 * @throws HenceError of this code (change) if it is not a usable address
 */
export function addressOf(given: string | URL, code: 'option-invalid' | 'effect-refused'): URL {
  const url = URL.parse(String(given))
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') return url
  throw failing(
    code,
    'The `url` of a webhook must be an address with http: or https:, without user name and password.',
  )
}

/**
 * Makes a signer for each secret.
 * @throws HenceError of this code (change) if one is not a secret
 */
export function signersOf(
  given: string | readonly string[],
  code: 'option-invalid' | 'effect-refused',
): readonly Webhook[] {
  const secrets = typeof given === 'string' ? [given] : given
  try {
    if (secrets.length === 0) throw new Error('there is none')
    return secrets.map((secret) => new Webhook(secret))
  } catch {
    // The library's message may quote the secret.
    throw failing(code, 'The `secret` of a webhook must be base64, as in "whsec_MfKQ9r8GKYqrTwjU".')
  }
}

/** Both codes are written out, so that a search finds where each is thrown. */
function failing(code: 'option-invalid' | 'effect-refused', message: string): HenceError {
  if (code === 'option-invalid') return changeError('option-invalid', message)
  return changeError('effect-refused', message)
}

function refusal(status: number, retryAfter: string | undefined, { host }: URL): Error {
  const isRefused = status >= 400 && status < 500 && !notRefused.has(status)
  if (isRefused) {
    return changeError('effect-refused', `${host} refused it with status ${status}`)
  }
  const isRedirect = status >= 300 && status < 400
  const text = `${host} answered with status ${status}${isRedirect ? ', and redirects are not followed' : ''}`
  const retryAfterMs = retryAfterMsOf(retryAfter)
  return Object.assign(new Error(text), retryAfterMs !== undefined && { retryAfterMs })
}

/** Seconds, or the time of day (RFC 9110, 10.2.3). */
function retryAfterMsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

/** No complete answer arrived. Only the error's code is reported: its text may quote headers. */
export function noAnswer({ host }: URL, error: unknown, signal: AbortSignal): Error {
  if (signal.aborted) return signal.reason
  const { code } = error as { code?: unknown }
  return new Error(`${host} gave no answer${typeof code === 'string' ? ` (${code})` : ''}`)
}
