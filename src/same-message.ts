import canonicalize from 'canonicalize'

/** The part of a request that a retry must repeat: `input` as JSON text. */
export interface SentMessage {
  readonly type: string
  readonly input: string
}

/** Whether two requests have the same type and input, by the input's canonical form (RFC 8785). */
export function sameMessage(a: SentMessage, b: SentMessage): boolean {
  if (a.type !== b.type) return false
  return a.input === b.input || canonicalize(JSON.parse(a.input)) === canonicalize(JSON.parse(b.input))
}
