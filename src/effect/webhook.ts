import type { IncomingMessage } from 'node:http'
import { Webhook } from 'standardwebhooks'
import { changeError, HenceError } from '../failure.ts'
import { parseStrict, textOf } from '../json.ts'
import { type ConnectionOptions, Connections, discard } from './connection.ts'
import type { Call, Handler } from './handlers.ts'

/** One value for all calls, or a function of the call. */
type PerCall<T, Input> = T | ((call: Call<Input>) => T | Promise<T>)

export interface WebhookOptions<Input = unknown> extends ConnectionOptions {
  /**
   * The receiver's address: `http:` or `https:`, without user name and password. Users may supply it: one
   * that is not public is refused, unless `allowAddresses` has it.
   */
  readonly url: PerCall<string | URL, Input>
  /**
   * The secrets that receivers verify signatures with: base64, with or without `whsec_`. With several, each
   * request carries a signature of each, so a receiver can rotate its secret.
   */
  readonly secret: PerCall<string | readonly string[], Input>
  /** Further headers, such as `Authorization`. */
  readonly headers?: PerCall<Readonly<Record<string, string>>, Input>
  /** How many bytes of an answer are read at most; a longer one counts as no result. Default 65,536. */
  readonly responseBytesMax?: number
}

/**
 * A handler that posts an effect to a web server, signed by Standard Webhooks
 * (https://www.standardwebhooks.com): `{ type, timestamp, data }`, where `type` is the effect's name,
 * `timestamp` the log time at which it was asked for, and `data` its input. The effect's id is sent as
 * `webhook-id` and as `Idempotency-Key`, so a receiver that keeps ids does it once however often it arrives.
 * The body is the same at each try; `webhook-timestamp` and the signature are not.
 *
 * Any 2xx means done; JSON in its body is the effect's result. 4xx is given up at once with `effect-refused`,
 * except 408, 409, 425 and 429. Those, every other status, and no answer are tried again, not before
 * `Retry-After`. Redirects are not followed. No error contains a secret, nor more of the address than its
 * host. A host whose address is not public is given up at once with `address-not-allowed`, unless
 * `allowAddresses` has it.
 *
 * @throws HenceError `option-invalid`, `address-not-allowed` (change) for an unusable address or secret
 */
export function webhook<Input = unknown, Result = unknown>(
  options: WebhookOptions<Input>,
): Handler<Input, Result> {
  const { url, secret, headers, responseBytesMax = 65_536 } = options
  // Fixed values are checked when the handler is made.
  const connections = new Connections(options)
  if (typeof url !== 'function') connections.check(addressOf(url, 'option-invalid'))
  if (typeof secret !== 'function') signersOf(secret, 'option-invalid')
  return async (call) => {
    const address = addressOf(await valueFor(url, call), 'effect-refused')
    const signers = signersOf(await valueFor(secret, call), 'effect-refused')
    const { id, type, at, input, signal } = call
    const body = JSON.stringify({ type, timestamp: new Date(at).toISOString(), data: input })
    const now = new Date()
    const fields = new Headers(headers && (await valueFor(headers, call)))
    fields.set('content-type', 'application/json')
    fields.set('idempotency-key', id)
    fields.set('webhook-id', id)
    fields.set('webhook-timestamp', String(Math.floor(now.getTime() / 1000)))
    fields.set('webhook-signature', signers.map((signer) => signer.sign(id, now, body)).join(' '))
    const response = await connections.post(address, fields, body, signal).catch((error) => {
      throw error instanceof HenceError ? error : noAnswer(address, error, signal)
    })
    const { statusCode: status = 0 } = response
    if (status < 200 || status >= 300) {
      discard(response)
      throw refusal(status, response.headers['retry-after'], address)
    }
    return (await resultOf(response, responseBytesMax).catch((error) => {
      throw noAnswer(address, error, signal)
    })) as Result
  }
}

function valueFor<T, Input>(value: PerCall<T, Input>, call: Call<Input>): T | Promise<T> {
  return typeof value === 'function' ? (value as (call: Call<Input>) => T | Promise<T>)(call) : value
}

/** The JSON of an answer; null if it has none, too much, or some that readers understand differently. */
async function resultOf(response: IncomingMessage, bytesMax: number): Promise<unknown> {
  const isJson = /^application\/([^;]*\+)?json\b/i.test(response.headers['content-type'] ?? '')
  if (!isJson) {
    discard(response)
    return null
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response) {
    bytes += chunk.byteLength
    if (bytes > bytesMax) return null
    chunks.push(chunk)
  }
  try {
    return parseStrict(textOf(Buffer.concat(chunks)))
  } catch {
    return null
  }
}

/** Statuses that may differ at the next try; the rest of 4xx are refusals. */
const notRefused = new Set([
  408, // It took the receiver too long to read the request.
  409, // Another try under this id is being worked on.
  425, // It does not want to be replayed to so early.
  429, // It has too much to do.
])

type FailureCode = 'option-invalid' | 'effect-refused'

/** @throws HenceError of this code (change) if it is not a usable address */
function addressOf(given: string | URL, code: FailureCode): URL {
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
function signersOf(given: string | readonly string[], code: FailureCode): readonly Webhook[] {
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
function failing(code: FailureCode, message: string): HenceError {
  if (code === 'option-invalid') return changeError('option-invalid', message)
  return changeError('effect-refused', message)
}

function refusal(status: number, retryAfter: string | undefined, { host }: URL): Error {
  const isRefused = status >= 400 && status < 500 && !notRefused.has(status)
  if (isRefused) return changeError('effect-refused', `${host} refused it with status ${status}`)
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
function noAnswer({ host }: URL, error: unknown, signal: AbortSignal): Error {
  if (signal.aborted) return signal.reason
  const { code } = error as { code?: unknown }
  return new Error(`${host} gave no answer${typeof code === 'string' ? ` (${code})` : ''}`)
}
