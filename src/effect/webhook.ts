import type { IncomingMessage } from 'node:http'
import { parseStrict, textOf } from '../json.ts'
import { type ConnectionOptions, Connections, discard } from './connection.ts'
import type { Call, Handler } from './handlers.ts'
import { addressOf, noAnswer, postSigned, signersOf } from './signed-post.ts'

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
    const further = headers && (await valueFor(headers, call))
    const body = { type, timestamp: new Date(at).toISOString(), data: input }
    const response = await postSigned({
      connections,
      address,
      signers,
      id,
      body,
      signal,
      ...(further && { further }),
    })
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
