import { join } from 'node:path'
import type { Flaw } from '../audit/verify.ts'
import type { ControlFact } from '../log/control-history.ts'
import type { Log } from '../log/log.ts'
import { decodeRecord } from '../log/record.ts'
import { checkCorrectionFiles } from '../reprocess/correction-files.ts'
import { kept } from '../storage/storage.ts'

/** Compares the correction files with the promotions: the next start needs those that the log lacks. */
export async function checkPromotions(
  data: string,
  log: Log,
  facts: readonly ControlFact[],
): Promise<(Flaw & { readonly isNeeded: boolean })[]> {
  const flaws: (Flaw & { readonly isNeeded: boolean })[] = []
  for (const fact of facts) {
    if (fact.type !== 'promotion' || fact.corrections === 0) continue
    const { number, corrections } = fact
    const { missing, changed } = await checkCorrectionFiles((name) => kept(data, name), fact)
    if (missing.length + changed.length === 0) continue
    const found = await correctionsIn(log, fact)
    const isNeeded = found !== corrections
    for (const name of changed) {
      const file = join(data, name)
      const message =
        `${file} is not what promotion ${number} wrote. Put it back from a copy. ` +
        'The corrections that are in the log already are right.'
      flaws.push({ code: 'corrections-changed-on-disk', message, file, isNeeded })
    }
    if (!isNeeded) continue
    for (const name of missing) {
      const file = join(data, name)
      const message =
        `The log has ${found} of ${corrections} corrections of promotion ${number}, and ` +
        `${file}, which has the others, is missing. Put it back from a copy.`
      flaws.push({ code: 'corrections-lost', message, file, isNeeded })
    }
  }
  return flaws
}

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
