import type { Clock } from '../clock.ts'
import type { Exchange } from './exchange.ts'

/** The pauses between tries. */
export interface Backoff {
  /** The longest wait after the first failure, in milliseconds; it doubles with each failure. */
  readonly firstMs: number
  /** The longest wait after any failure, in milliseconds. */
  readonly mostMs: number
}

/** How a server is asked until it answers. */
export interface Asking {
  readonly exchange: Exchange
  readonly backoff: Backoff
  readonly clock: Clock
  /** Numbers in [0, 1) for the jitter of pauses. */
  readonly random: () => number
}

/**
 * The pause after this many failures: exponential backoff with full jitter, so that clients that failed
 * together do not come back together. A wait that the server asked for is kept in any case.
 */
export function pauseMs(
  { backoff: { firstMs, mostMs }, random }: Pick<Asking, 'backoff' | 'random'>,
  failures: number,
  askedMs = 0,
): number {
  const most = Math.min(mostMs, firstMs * 2 ** Math.min(failures - 1, 40))
  return Math.round(askedMs + random() * most)
}
