import { hash } from 'node:crypto'
import type { Outcome } from '../app/index.ts'
import type { RequestRecord } from '../log/record.ts'
import { canonicalJson } from '../state/digest.ts'

/** The outcome of a request, and the position of the request in the log. */
export interface StoredOutcome {
  readonly partition: number
  readonly offset: number
  /** Of the request, see `fingerprintOf`: a retry that is equal need not be compared with the log. */
  readonly fingerprint: string
  /** Undefined while the request waits for its claims. */
  readonly outcome: Outcome | undefined
  /** The outcome by the code that was promoted since, if it differs; clients still get the first one. */
  readonly corrected?: Outcome
  /** The id of the request, effect or violation that the request replies to. */
  readonly inReplyTo?: string
}

export type DecidedOutcome = Omit<StoredOutcome, 'fingerprint'>

/** Names the type and the input of a request, as it was sent: 96 bits of a SHA-256, as 16 characters. */
export function fingerprintOf({ type, input }: { readonly type: string; readonly input: string }): string {
  return hash('sha256', `${type} ${input}`, 'base64').slice(0, 16)
}

/** The outcome of a request as it is stored; without spreads, since there is one for every request. */
export function outcomeOf(
  request: RequestRecord,
  { partition, offset, outcome }: DecidedOutcome,
): StoredOutcome {
  const { inReplyTo } = request
  const stored = { partition, offset, fingerprint: fingerprintOf(request), outcome }
  return inReplyTo === undefined ? stored : { ...stored, inReplyTo }
}

/** The outcome that the code of this generation derived, whichever clients get. */
export function derivedOutcome({ outcome, corrected }: StoredOutcome): Outcome | undefined {
  return corrected ?? outcome
}

/** Puts the outcome back that clients received first; what this code derived stands beside it if it differs. */
export function withReceived(stored: StoredOutcome, received: Outcome): StoredOutcome {
  const corrected = derivedOutcome(stored)
  if (corrected === undefined) return stored
  const isSame = canonicalJson(received) === canonicalJson(corrected)
  return { ...stored, outcome: received, ...(!isSame && { corrected }) }
}

/**
 * `partition:offset:fingerprint outcome`: short, since there is one for every request. The outcome is empty
 * while there is none. A corrected outcome follows after a tab, which JSON text never contains. A reply names
 * right after the fingerprint, which is 16 characters or none, what it replies to.
 */
export function encodeStoredOutcome({
  partition,
  offset,
  fingerprint,
  outcome,
  corrected,
  inReplyTo = '',
}: StoredOutcome): string {
  const first = outcome === undefined ? '' : JSON.stringify(outcome)
  return (
    `${partition}:${offset}:${fingerprint}${inReplyTo} ` +
    `${first}${corrected === undefined ? '' : `\t${JSON.stringify(corrected)}`}`
  )
}

export function decodeStoredOutcome(text: string): StoredOutcome {
  const seams = seamsOf(text)
  const { colon, second, blank } = seams
  const inReplyTo = repliedTo(text, seams)
  const [first, corrected] = text.slice(blank + 1).split('\t')
  return {
    partition: Number(text.slice(0, colon)),
    offset: Number(text.slice(colon + 1, second)),
    fingerprint: text.slice(second + 1, Math.min(blank, second + 17)),
    outcome: first ? JSON.parse(first) : undefined,
    ...(corrected && { corrected: JSON.parse(corrected) }),
    ...(inReplyTo !== undefined && { inReplyTo }),
  }
}

/** The id that a request replies to, by its stored outcome. */
export function repliedTo(text: string, { second, blank } = seamsOf(text)): string | undefined {
  return blank > second + 17 ? text.slice(second + 17, blank) : undefined
}

function seamsOf(text: string): { colon: number; second: number; blank: number } {
  const colon = text.indexOf(':')
  const second = text.indexOf(':', colon + 1)
  return { colon, second, blank: text.indexOf(' ', second) }
}
