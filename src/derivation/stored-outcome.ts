import type { Outcome } from '../app/index.ts'

/** The outcome of a request, and the position of the request in the log. */
export interface StoredOutcome {
  readonly partition: number
  readonly offset: number
  /** Undefined while the request waits for its claims. */
  readonly outcome: Outcome | undefined
  /** The outcome by the code that was promoted since, if it differs; clients still get the first one. */
  readonly corrected?: Outcome
}

/** The outcome that the code of this generation derived, whichever clients get. */
export function derivedOutcome({ outcome, corrected }: StoredOutcome): Outcome | undefined {
  return corrected ?? outcome
}

/**
 * `partition:offset outcome`: short, since there is one for every request. The outcome is empty while there
 * is none. A corrected outcome follows after a tab, which JSON text never contains.
 */
export function encodeStoredOutcome({ partition, offset, outcome, corrected }: StoredOutcome): string {
  const first = outcome === undefined ? '' : JSON.stringify(outcome)
  return `${partition}:${offset} ${first}${corrected === undefined ? '' : `\t${JSON.stringify(corrected)}`}`
}

export function decodeStoredOutcome(text: string): StoredOutcome {
  const colon = text.indexOf(':')
  const blank = text.indexOf(' ')
  const [first, corrected] = text.slice(blank + 1).split('\t')
  return {
    partition: Number(text.slice(0, colon)),
    offset: Number(text.slice(colon + 1, blank)),
    outcome: first ? JSON.parse(first) : undefined,
    ...(corrected && { corrected: JSON.parse(corrected) }),
  }
}
