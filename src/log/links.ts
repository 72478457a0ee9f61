import { operatorError } from '../failure.ts'
import type { Link, Log } from './log.ts'

/**
 * Checks that batches which something was derived from are those of a log, and not of another branch of it:
 * of a copy that went on by itself. The hash before a batch covers all of its partition before it.
 * @param links by partition
 * @returns the first partition that has another batch there; undefined if there is none
 */
export async function otherBranch(
  log: Log,
  links: readonly (Link | undefined)[],
): Promise<number | undefined> {
  for (const [partition, link] of links.entries()) {
    // A log that is shorter is another fault, and a growing one may not know its end yet.
    if (link === undefined || link.offset >= (await log.end(partition))) continue
    for await (const { offset, before } of log.read(partition, link.offset)) {
      if (offset !== link.offset || before?.equals(link.hash) === false) return partition
      break
    }
  }
  return undefined
}

export const ofOtherBranch = (partition: number) =>
  operatorError(
    'state-of-another-log',
    `The derived state was derived from other records of partition ${partition} than this log has: it is ` +
      'that of a copy of the directory that went on by itself. Restore the right log, or remove the ' +
      'folder `state`: it is derived again from the log.',
  )
