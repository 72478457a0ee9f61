import { changeError, retryError } from '../failure.ts'
import { type Log, positionOf } from '../log/log.ts'
import type { Processor } from '../processor/processor.ts'

/**
 * Waits until the request of a token, and all events that follow from it, are applied.
 * @param settled returns the processor of the live generation, once that has caught up
 * @throws HenceError `token-unknown` (change); what `closed` is aborted with
 */
export async function completed(
  token: string,
  log: Log,
  settled: () => Promise<Processor>,
  closed: AbortSignal,
): Promise<void> {
  const position = positionOf(token, log.partitions)
  if (position === undefined) throw unknownToken(token)
  const { partition, offset } = position
  if ((await settled()).completion.isComplete(partition, offset)) return
  if (offset >= (await log.end(partition))) throw unknownToken(token)
  closed.throwIfAborted()
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
