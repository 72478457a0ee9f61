/** How long to wait between tries. */
export interface Backoff {
  /** The longest wait after the first failure, in milliseconds; it doubles from failure to failure. */
  readonly firstMs: number
  /** The longest wait of all, in milliseconds. */
  readonly mostMs: number
}

/** No server may silence a client for longer than this by `Retry-After`. */
const askedMsMax = 60 * 60 * 1000

/**
 * How long to wait after so many failures: exponential backoff with full jitter, so that clients which failed
 * together do not come back together. What the server asked for is waited in any case.
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
