import { Webhook } from 'standardwebhooks'
import { HenceError } from '../failure.ts'
import type { Call, Handler } from './handlers.ts'

/** What is the same for all calls, or worked out for each. */
type PerCall<T, Input> = T | ((call: Call<Input>) => T | Promise<T>)

export interface WebhookOptions<Input = unknown> {
  /** Where to; `http:` or `https:`, without user name and password. One that comes from users must be checked before. */
  readonly url: PerCall<string | URL, Input>
  /**
   * What the receiver verifies signatures with: base64, `whsec_` may stand before it. Several while a receiver changes
   * from one to another: it is signed with each.
   */
  readonly secret: PerCall<string | readonly string[], Input>
  /** Further headers, such as `Authorization`. */
  readonly headers?: PerCall<Readonly<Record<string, string>>, Input>
  /** The most bytes of an answer that are read; more than that counts as no result. Default 65,536. */
  readonly responseBytesMax?: number
}

/** Answers that may be another one at the next try: the rest of 4xx are refusals. */
const notRefused = new Set([
  408, // It took the receiver too long to read the request.
  409, // Another try under this id is being worked on.
  425, // It does not want to be replayed to so early.
  429, // It has too much to do.
])

/**
 * A handler that posts an effect to a web server, signed by Standard Webhooks
 * (https://www.standardwebhooks.com): `{ type, timestamp, data }`, where `type` is the effect's name, `timestamp` the
 * time that it was asked for, and `data` its input. The id of the effect is both `webhook-id` and `Idempotency-Key`,
 * so a receiver that keeps ids does it once however often it arrives. For one id the body is always the same;
 * `webhook-timestamp` and the signature are those of the try.
 *
 * Any 2xx is done; JSON in its body is the effect's result. 4xx is given up at once with `effect-refused`, but for
 * 408, 409, 425 and 429; those, everything else, and no answer are tried again, not before what `Retry-After` says.
 * Redirects are not followed, and errors name no secret, nor more of the address than its host.
 *
 * @throws HenceError `option-invalid` (change) for an address or a secret that cannot be one
 */
export function webhook<Input = unknown, Result = unknown>(
  options: WebhookOptions<Input>,
): Handler<Input, Result> {
  const { url, secret, headers, responseBytesMax = 65_536 } = options
  // What is known now is checked now.
  if (typeof url !== 'function') addressOf(url, 'option-invalid')
  if (typeof secret !== 'function') signersOf(secret, 'option-invalid')
  return async (call) => {
    const address = addressOf(await valueFor(url, call), 'effect-refused')
    const signers = signersOf(await valueFor(secret, call), 'effect-refused')
    const { id, type, at, input, signal } = call
    const body = JSON.stringify({ type, timestamp: new Date(at).toISOString(), data: input })
    const now = new Date()
    const further = headers && (await valueFor(headers, call))
    let response: Response
    try {
      const all = new Headers(further)
      all.set('content-type', 'application/json')
      all.set('idempotency-key', id)
      all.set('webhook-id', id)
      all.set('webhook-timestamp', String(Math.floor(now.getTime() / 1000)))
      all.set('webhook-signature', signers.map((signer) => signer.sign(id, now, body)).join(' '))
      response = await fetch(address, { method: 'POST', body, headers: all, redirect: 'manual', signal })
    } catch (error) {
      throw noAnswer(address, error, signal)
    }
    if (response.ok) {
      return (await resultOf(response, responseBytesMax).catch((error) => {
        throw noAnswer(address, error, signal)
      })) as Result
    }
    await response.body?.cancel().catch(() => {})
    throw refusal(response, address)
  }
}

function valueFor<T, Input>(value: PerCall<T, Input>, call: Call<Input>): T | Promise<T> {
  return typeof value === 'function' ? (value as (call: Call<Input>) => T | Promise<T>)(call) : value
}

function addressOf(given: string | URL, code: 'option-invalid' | 'effect-refused'): URL {
  const url = URL.parse(String(given))
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') return url
  throw failing(
    code,
    'The `url` of a webhook must be an address with http: or https:, without user name and password.',
  )
}

function signersOf(
  given: string | readonly string[],
  code: 'option-invalid' | 'effect-refused',
): readonly Webhook[] {
  const secrets = typeof given === 'string' ? [given] : given
  try {
    if (secrets.length === 0) throw new Error('there is none')
    return secrets.map((secret) => new Webhook(secret))
  } catch {
    // What the library says may quote the secret.
    throw failing(code, 'The `secret` of a webhook must be base64, as in "whsec_MfKQ9r8GKYqrTwjU".')
  }
}

/** The two codes are written out, so that each is found where it is thrown. */
function failing(code: 'option-invalid' | 'effect-refused', message: string): HenceError {
  if (code === 'option-invalid') return new HenceError('option-invalid', 'change', message)
  return new HenceError('effect-refused', 'change', message)
}

function refusal({ status, headers }: Response, { host }: URL): Error {
  const isRefused = status >= 400 && status < 500 && !notRefused.has(status)
  if (isRefused) {
    return new HenceError('effect-refused', 'change', `${host} refused it with status ${status}`)
  }
  const isRedirect = status >= 300 && status < 400
  const text = `${host} answered with status ${status}${isRedirect ? ', and redirects are not followed' : ''}`
  const retryAfterMs = retryAfterMsOf(headers.get('retry-after'))
  return Object.assign(new Error(text), retryAfterMs !== undefined && { retryAfterMs })
}

/** Seconds, or the time of day (RFC 9110, 10.2.3). */
function retryAfterMsOf(text: string | null): number | undefined {
  if (text === null) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

/** No whole answer came. Only the error's code is told: its text may quote headers. */
function noAnswer({ host }: URL, error: unknown, signal: AbortSignal): Error {
  if (signal.aborted) return signal.reason
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  const why = cause?.code ?? code
  return new Error(`${host} gave no answer${typeof why === 'string' ? ` (${why})` : ''}`)
}

/** The JSON of an answer; null when it has none, or too much. */
async function resultOf(response: Response, bytesMax: number): Promise<unknown> {
  const isJson = /^application\/([^;]*\+)?json\b/i.test(response.headers.get('content-type') ?? '')
  if (!isJson || response.body === null) {
    await response.body?.cancel()
    return null
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body) {
    bytes += chunk.byteLength
    if (bytes > bytesMax) return null
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    return null
  }
}
