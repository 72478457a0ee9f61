import type { Call, Handler } from './handlers.ts'
import { addressOf, noAnswer, postSigned, signersOf } from './signed-post.ts'

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
    const further = headers && (await valueFor(headers, call))
    const body = { type, timestamp: new Date(at).toISOString(), data: input }
    const response = await postSigned({ address, signers, id, body, signal, ...(further && { further }) })
    return (await resultOf(response, responseBytesMax).catch((error) => {
      throw noAnswer(address, error, signal)
    })) as Result
  }
}

function valueFor<T, Input>(value: PerCall<T, Input>, call: Call<Input>): T | Promise<T> {
  return typeof value === 'function' ? (value as (call: Call<Input>) => T | Promise<T>)(call) : value
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
