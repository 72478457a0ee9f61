import type { Outcome } from '../app/index.ts'

/** The outcome of a request, and where the request stands in the log. */
export interface Decided {
  readonly partition: number
  readonly offset: number
  /** Undefined while it waits for its claims. */
  readonly outcome: Outcome | undefined
}

/** `partition:offset outcome`, since there is one for every request; without the outcome while there is none. */
export function encodeDecided({ partition, offset, outcome }: Decided): string {
  return `${partition}:${offset} ${outcome === undefined ? '' : JSON.stringify(outcome)}`
}

export function decodeDecided(text: string): Decided {
  const colon = text.indexOf(':')
  const blank = text.indexOf(' ')
  return {
    partition: Number(text.slice(0, colon)),
    offset: Number(text.slice(colon + 1, blank)),
    outcome: blank + 1 === text.length ? undefined : JSON.parse(text.slice(blank + 1)),
  }
}
