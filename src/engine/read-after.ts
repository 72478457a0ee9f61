import { changeError, retryError } from '../failure.ts'
import { type Log, positionOf } from '../log/log.ts'
import type { Processor } from '../processor/processor.ts'

/**
 * Waits until the request of a token, and all events that follow from it, are applied.
 * @param settled returns the processor of the live generation, once that has caught up
 * @param ageMs how old the state may be: a token of the process that has taken over is not known here
 * @throws HenceError `token-unknown` (change), `engine-unsure` (retry); what `closed` is aborted with
 */
export async function completed(
  token: string,
  log: Log,
  settled: () => Promise<Processor>,
  closed: AbortSignal,
  ageMs: () => number,
): Promise<void> {
  const position = positionOf(token, log.partitions)
  if (position === undefined) throw unknownToken(token)
  const { partition, offset } = position
  if ((await settled()).completion.isComplete(partition, offset)) return
  closed.throwIfAborted()
  if (offset >= (await log.end(partition))) throw ageMs() > 0 ? engineUnsure(ageMs()) : unknownToken(token)
  await (await settled()).completion.wait(partition, offset)
}

/** The error for a read whose tokens were not applied in time. */
export const afterTooLate = (tokens: readonly string[], ms: number) =>
  retryError(
    'after-too-late',
    `The requests at ${tokens.join(', ')} and their consequences were not applied within ${ms} ms. Read again.`,
  )

export const unknownToken = (token: string) =>
  changeError(
    'token-unknown',
    `The token ${JSON.stringify(token)} names no record of this log; tokens come with the replies of submit.`,
  )

/** The error of a process that was active, and does not know whether it still is. */
export const engineUnsure = (ageMs: number) =>
  retryError(
    'engine-unsure',
    `This process was active ${Math.ceil(ageMs)} ms ago, and does not know whether it still is: it cannot reach ` +
      'the log, or it was stopped meanwhile. Another one may have taken over: ask that one, or this one again.',
  )
