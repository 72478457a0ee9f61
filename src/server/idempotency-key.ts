import { parseItem } from 'structured-headers'
import { changeError } from '../failure.ts'
import type { AskedRequest } from './asked.ts'
import type { Header } from './route.ts'

export const requestIdHeader: Header = {
  name: 'Idempotency-Key',
  required: true,
  description:
    'The id of the request, made and stored by the client; a UUID of version 7 is the standard form.',
  // A string of RFC 9651, or the same without quotes.
  schema: { type: 'string', pattern: '^([!#-~]{1,255}|"([!#-\\[\\]-~]|\\\\["\\\\]){1,255}")$' },
}

/**
 * The request id in the header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07), a string of
 * RFC 9651: `"8e03978e-…"`. The form without quotes that Stripe's clients and others send is accepted too.
 */
export function requestIdOf(headers: AskedRequest['headers']): string {
  const id = idIn(headers, 'Idempotency-Key')
  if (id === undefined) {
    throw changeError(
      'request-id-missing',
      'The header Idempotency-Key is missing. Make an id (a UUID of version 7), store it, and send it with every try.',
    )
  }
  return id
}

/** The id in a header of that form; undefined without the header. */
export function idIn(headers: AskedRequest['headers'], name: string): string | undefined {
  const header = headers.get(name)
  if (header === null || header === '') return undefined
  if (header[0] !== '"') {
    if (/^[\x21\x23-\x7e]{1,255}$/.test(header)) return header
    throw malformed(name, header)
  }
  const plain = /^"([\x21\x23-\x5b\x5d-\x7e]+)"$/.exec(header)
  if (plain) return plain[1]!
  let value: unknown
  try {
    ;[value] = parseItem(header)
  } catch {
    throw malformed(name, header)
  }
  if (typeof value === 'string' && value !== '') return value
  throw malformed(name, header)
}

const malformed = (name: string, header: string) =>
  changeError(
    'request-id-invalid',
    `The header ${name} must be one string in quotes, or 1 to 255 visible ASCII characters without quotes, not ${
      header.length > 80 ? `${header.slice(0, 80)}…` : header
    }.`,
  )
