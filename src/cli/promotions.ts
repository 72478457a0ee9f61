import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Flaw } from '../audit/verify.ts'
import type { ControlFact } from '../derivation/control-history.ts'
import type { Log } from '../log/log.ts'
import { decodeRecord } from '../log/record.ts'
import { correctionsName } from '../storage.ts'
import { keptIn } from './code.ts'

/**
 * Holds the corrections that a data directory keeps against what its log says of them. A start needs those that the log does
 * not have yet, after a process that ended while it wrote them.
 */
export async function checkPromotions(
  data: string,
  log: Log,
  facts: readonly ControlFact[],
): Promise<Flaw[]> {
  const flaws: Flaw[] = []
  for (const fact of facts) {
    if (fact.type !== 'promotion' || fact.corrections === 0) continue
    const { number, corrections, correctionsHash } = fact
    const file = join(data, correctionsName(number))
    const text = await keptIn(data, correctionsName(number))
    if (text === undefined) {
      const found = await correctionsIn(log, fact)
      if (found === corrections) continue
      const message = `The log has ${found} of ${corrections} corrections of promotion ${number}, and ${file}, which has all of them, is not there. Put it back from a copy.`
      flaws.push({ code: 'corrections-lost', message, file })
    } else if (createHash('sha256').update(text).digest('hex') !== correctionsHash) {
      const message = `${file} is not what promotion ${number} has written. Put it back from a copy; what of it is in the log already is as it was.`
      flaws.push({ code: 'corrections-changed-on-disk', message, file })
    }
  }
  return flaws
}

/** How many corrections of a promotion the log has. */
async function correctionsIn(log: Log, { number, positions }: ControlFact): Promise<number> {
  const found = new Set<number>()
  for (const [partition, position] of positions.entries()) {
    for await (const { records } of log.read(partition, position)) {
      for (const bytes of records) {
        const record = decodeRecord(bytes)
        if (record.kind === 'correction' && record.correction.promotion === number)
          found.add(record.correction.n)
      }
    }
  }
  return found.size
}
