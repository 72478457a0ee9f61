/** The pauses between tries. */
export interface Backoff {
  /** The longest wait after the first failure, in milliseconds; it doubles with each failure. */
  readonly firstMs: number
  /** The longest wait after any failure, in milliseconds. */
  readonly mostMs: number
}

/** No server can silence a client for longer than this by `Retry-After`. */
const askedMsMax = 60 * 60 * 1000

/**
 * The pause after this many failures: exponential backoff with full jitter, so that clients that failed together do
 * not come back together. A wait that the server asked for is kept in any case.
 */
export function pauseMs(
  { firstMs, mostMs }: Backoff,
  failures: number,
  random: () => number,
  askedMs = 0,
): number {
  const most = Math.min(mostMs, firstMs * 2 ** Math.min(failures - 1, 40))
  return Math.round(Math.min(askedMs, askedMsMax) + random() * most)
}
