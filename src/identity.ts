import { changeError } from './failure.ts'

/**
 * The identity of a request: its id and its principal in one latin1 string, the key that its outcome is
 * stored under. Ids of version 7 come first and sort by time, so that old ones form one range:
 *
 *   '7' + the UUID in lower case + NUL + principal (UTF-8 bytes)
 *   'x' + any other id           + NUL + principal (UTF-8 bytes)
 */
export type Identity = string

/** Ids that contain a time: UUID version 7 (RFC 9562). */
const uuid7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i
// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII.
const ascii = /^[\x00-\x7f]*$/
const visibleAscii = /^[\x21-\x7e]{1,255}$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: it looks for control characters.
const plainText = /^[^\x00-\x1f\x7f]*$/

/**
 * Makes the identity of a request.
 * @param requestId 1 to 255 visible ASCII characters; a UUID is taken in either case
 * @param principal at most 255 bytes of UTF-8 without control characters; may be empty
 */
export function identityOf(requestId: string, principal: string): Identity {
  const isUuid7 = typeof requestId === 'string' && uuid7.test(requestId)
  if (!isUuid7) checkRequestId(requestId)
  if (principal !== last.principal) last = { principal, end: endOf(principal) }
  return `${isUuid7 ? `7${requestId.toLowerCase()}` : `x${requestId}`}${last.end}`
}

/** The principal of the identity that was made last, mostly that of the next one too, and its part of it. */
let last = { principal: '', end: '\0' }

function endOf(principal: string): string {
  if (
    typeof principal !== 'string' ||
    !plainText.test(principal) ||
    !principal.isWellFormed() ||
    Buffer.byteLength(principal) > 255
  ) {
    throw changeError(
      'principal-invalid',
      'A principal must be text of at most 255 bytes without control characters.',
    )
  }
  return `\0${ascii.test(principal) ? principal : Buffer.from(principal).toString('latin1')}`
}

export const requestIdOf = (identity: Identity): string => identity.slice(1, identity.indexOf('\0'))

export function principalOf(identity: Identity): string {
  return Buffer.from(identity.slice(identity.indexOf('\0') + 1), 'latin1').toString()
}

/** Who sent a request, as readers name it. */
export function senderOf(identity: Identity): { readonly requestId: string; readonly principal: string } {
  return { requestId: requestIdOf(identity), principal: principalOf(identity) }
}

/** @param of where the id was given */
export function checkRequestId(requestId: string, of = 'A request id'): void {
  if (typeof requestId === 'string' && visibleAscii.test(requestId)) return
  throw changeError(
    'request-id-invalid',
    requestId === undefined
      ? 'The request id is missing. Make one, for example a UUID of version 7, store it, and pass it as ' +
          'the option `requestId`.'
      : `${of} must be 1 to 255 visible ASCII characters; a UUID of version 7 is the standard form.`,
  )
}

/** The id that a request replies to, as stories know it: a UUID of version 7 in lower case. */
export function answeredId(id: string, requestId: string): string {
  checkRequestId(id, 'The id in `inReplyTo`')
  const [answered, own] = [id, requestId].map((each) => (uuid7.test(each) ? each.toLowerCase() : each))
  if (answered !== own) return answered!
  throw changeError(
    'request-id-invalid',
    `The request ${requestId} names itself in \`inReplyTo\`: name what it replies to, or leave it out.`,
  )
}

/** The time in a version 7 id, in milliseconds since 1970; undefined for an id without one. */
export function timeOf(identity: Identity): number | undefined {
  if (identity[0] !== '7') return undefined
  let time = 0
  // Its 12 digits, in lower case, with a hyphen after the eighth. Slices would cost ten times as much.
  for (let i = 1; i < 14; i++) {
    const code = identity.charCodeAt(i)
    if (i !== 9) time = 16 * time + code - (code < 0x3a ? 0x30 : 0x57)
  }
  return time
}

/** The end (not included) of the range of identities, from '7' on, whose ids are older than a time. */
export function identitiesBefore(time: number): Identity {
  const hex = Math.max(0, time).toString(16).padStart(12, '0')
  return `7${hex.slice(0, 8)}-${hex.slice(8)}`
}
