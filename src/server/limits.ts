import { changeError } from '../failure.ts'

export const limitsDefault = {
  /** The longest body of a request, and the longest line of a batch. Default 1 MiB. */
  bodyBytes: 1024 * 1024,
  /** Bytes of bodies, lines, outcomes, and answers beyond 64 KiB that are not read yet. Default 64 MiB. */
  bodiesBytes: 64 * 1024 * 1024,
  /** Those of one principal. Default 16 MiB. */
  bodiesBytesPerCaller: 16 * 1024 * 1024,
  /** How long a body may take to arrive; for a batch, how long a line may take, and a pause. Default 30 s. */
  bodyMs: 30_000,
  /** How many batches may be open. Default 100. */
  batches: 100,
  /** Those of one principal. Default 10. */
  batchesPerCaller: 10,
  /** How many lines of one batch may wait for their outcome. Default 1,024. */
  batchInFlight: 1_024,
  /** How long the body of a batch may take. Default 1 hour. */
  batchMs: 3_600_000,
  /** How many streams of changes may be open. Default 1,000. */
  streams: 1_000,
  /** Those of one principal. Default 100. */
  streamsPerCaller: 100,
  /** How long the client of a stream or a batch may read nothing before it is cut off. Default 30 s. */
  stalledMs: 30_000,
  /** How often an idle stream sends a comment, so that both ends notice a broken connection. Default 15 s. */
  heartbeatMs: 15_000,
  /** How long a read may wait for `after`: less than a client waits for one try. Default 20 s. */
  afterMs: 20_000,
  /** Own listener: how many connections may be open. Default 10,000. */
  connections: 10_000,
  /** Own listener: the longest head of a request. Default 16 KiB. */
  headBytes: 16 * 1024,
  /** Own listener: how long a head may take to arrive. Default 10 s. */
  headMs: 10_000,
  /** Own listener: how long a connection may be idle between two requests. Default 10 s. */
  idleMs: 10_000,
  /** How long `close` waits for requests under way. Default 10 s. */
  drainMs: 10_000,
}

/** The bounds of a server; each may be set. */
export type Limits = Readonly<typeof limitsDefault>

export function limitsOf(given: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(given)) {
    const known = name in limitsDefault
    if (known && Number.isSafeInteger(value) && value > 0 && value < 2 ** 31) continue
    throw changeError(
      'option-invalid',
      known
        ? `The limit \`${name}\` must be a whole number from 1 to 2,147,483,647, not ${value}.`
        : `There is no limit \`${name}\`; there are ${Object.keys(limitsDefault).join(', ')}.`,
    )
  }
  return { ...limitsDefault, ...given }
}
