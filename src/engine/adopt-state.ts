import { HenceError } from '../failure.ts'
import { type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { ofOtherBranch, otherBranch } from '../log/links.ts'
import { recordsBefore } from '../log/partitions.ts'
import { linksOf } from '../processor/checkpoint.ts'
import type { Reporter } from '../report.ts'
import { readManifest } from '../reprocess/manifest.ts'
import { kept, type Storage } from '../storage/storage.ts'

/**
 * Begins with a copy of the derived state, if there is no state yet. One that is damaged, or of another log,
 * is refused: then all is derived from the log.
 * @param from the folder that `backupState` has made
 */
export async function adoptState(
  generations: GenerationHost,
  storage: Storage,
  { from, report }: { readonly from: string; readonly report: Reporter },
): Promise<void> {
  const { live } = await readManifest((name) => kept(from, name))
  if (!(await storage.states?.adopt(live, from))) return
  try {
    const saved = await savedCheckpoint(generations, live)
    // It was set aside, which is reported.
    if (saved === undefined) return await storage.dropStore(live)
    const { log } = generations
    const other = await otherBranch(log, linksOf(saved))
    if (other !== undefined) throw ofOtherBranch(other)
    for (const [partition, position] of saved.positions.entries())
      if (position > (await log.end(partition))) throw ofOtherBranch(partition)
    await generations.programOf(saved.version)
    const message = `The state begins as a copy from ${from}, with ${recordsBefore(saved.positions)} records.`
    report({ level: 'info', code: 'state-adopted', message })
  } catch (error) {
    await storage.dropStore(live)
    if (!(error instanceof HenceError)) throw error
    const message = `The copy of the state in ${from} is not used, and all is derived: ${error.message}`
    report({ level: 'warning', code: 'state-refused', message })
  }
}
