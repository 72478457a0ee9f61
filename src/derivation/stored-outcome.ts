import type { Outcome } from '../app/index.ts'

/** The outcome of a request, and where the request stands in the log. */
export interface StoredOutcome {
  readonly partition: number
  readonly offset: number
  /** Undefined while it waits for its claims. */
  readonly outcome: Outcome | undefined
  /** What the code that was promoted since makes of it; the outcome is what was told, and still is. */
  readonly corrected?: Outcome
}

/** What the code of a generation made of a request, whatever was told. */
export function derivedOutcome({ outcome, corrected }: StoredOutcome): Outcome | undefined {
  return corrected ?? outcome
}

/**
 * `partition:offset outcome`, since there is one for every request; without the outcome while there is none. What it was
 * corrected to stands behind a tab, which JSON never holds.
 */
export function encodeStoredOutcome({ partition, offset, outcome, corrected }: StoredOutcome): string {
  const told = outcome === undefined ? '' : JSON.stringify(outcome)
  return `${partition}:${offset} ${told}${corrected === undefined ? '' : `\t${JSON.stringify(corrected)}`}`
}

export function decodeStoredOutcome(text: string): StoredOutcome {
  const colon = text.indexOf(':')
  const blank = text.indexOf(' ')
  const [told, corrected] = text.slice(blank + 1).split('\t')
  return {
    partition: Number(text.slice(0, colon)),
    offset: Number(text.slice(colon + 1, blank)),
    outcome: told ? JSON.parse(told) : undefined,
    ...(corrected && { corrected: JSON.parse(corrected) }),
  }
}
