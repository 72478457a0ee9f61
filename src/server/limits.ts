import { HenceError } from '../failure.ts'

/** The bounds of a server; each may be set. */
export interface Limits {
  /** The longest body of a request, and the longest line of a batch. Default 1 MiB. */
  readonly bodyBytes: number
  /**
   * The bytes of all bodies, lines and outcomes of batches, and of answers beyond 64 KiB that are not read
   * yet. Default 64 MiB.
   */
  readonly bodiesBytes: number
  /** Those of one principal. Default 16 MiB. */
  readonly bodiesBytesPerCaller: number
  /** How long a body may take to arrive; for a batch, how long a line may take, and a pause. Default 30 s. */
  readonly bodyMs: number
  /** How many batches may be open. Default 100. */
  readonly batches: number
  /** Those of one principal. Default 10. */
  readonly batchesPerCaller: number
  /** How many lines of one batch may wait for their outcome. Default 1,024. */
  readonly batchInFlight: number
  /** How long the body of a batch may take. Default 1 hour. */
  readonly batchMs: number
  /** How many streams of changes may be open. Default 1,000. */
  readonly streams: number
  /** Those of one principal. Default 100. */
  readonly streamsPerCaller: number
  /** How long the client of a stream or a batch may read nothing before it is cut off. Default 30 s. */
  readonly stalledMs: number
  /** How often an idle stream sends a comment, so that both ends notice a broken connection. Default 15 s. */
  readonly heartbeatMs: number
  /** How long a read may wait for `after`. Default 30 s. */
  readonly afterMs: number
  /** Own listener: how many connections may be open. Default 10,000. */
  readonly connections: number
  /** Own listener: the longest head of a request. Default 16 KiB. */
  readonly headBytes: number
  /** Own listener: how long a head may take to arrive. Default 10 s. */
  readonly headMs: number
  /** Own listener: how long a connection may be idle between two requests. Default 10 s. */
  readonly idleMs: number
  /** How long `close` waits for requests under way. Default 10 s. */
  readonly drainMs: number
}

export const limitsDefault: Limits = {
  bodyBytes: 1024 * 1024,
  bodiesBytes: 64 * 1024 * 1024,
  bodiesBytesPerCaller: 16 * 1024 * 1024,
  bodyMs: 30_000,
  batches: 100,
  batchesPerCaller: 10,
  batchInFlight: 1_024,
  batchMs: 3_600_000,
  streams: 1_000,
  streamsPerCaller: 100,
  stalledMs: 30_000,
  heartbeatMs: 15_000,
  afterMs: 30_000,
  connections: 10_000,
  headBytes: 16 * 1024,
  headMs: 10_000,
  idleMs: 10_000,
  drainMs: 10_000,
}

/** @throws HenceError `option-invalid` (change) */
export function limitsOf(given: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(given)) {
    const known = name in limitsDefault
    if (known && Number.isSafeInteger(value) && value > 0 && value < 2 ** 31) continue
    throw new HenceError(
      'option-invalid',
      'change',
      known
        ? `The limit \`${name}\` must be a whole number from 1 to 2,147,483,647, not ${value}.`
        : `There is no limit \`${name}\`; there are ${Object.keys(limitsDefault).join(', ')}.`,
    )
  }
  return { ...limitsDefault, ...given }
}
