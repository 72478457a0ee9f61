import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { type GenerationHost, savedCheckpoint } from '../generation/generation.ts'
import { ofOtherBranch, otherBranch } from '../log/links.ts'
import { recordsBefore } from '../log/partitions.ts'
import { linksOf } from '../processor/checkpoint.ts'
import type { Reporter } from '../report.ts'
import { readManifest, writeManifest } from '../reprocess/manifest.ts'
import { stateFolder } from '../storage/states.ts'
import { kept, type Storage } from '../storage/storage.ts'
import { isPeer, withStateOf } from './peer-state.ts'
import { noState } from './state-copy.ts'

interface AdoptOptions {
  /** The folder that `backupState` has made, or the URL of another process; undefined: there is no copy. */
  readonly state?: string | undefined
  readonly stateKey?: string | undefined
  readonly report: Reporter
  readonly signal?: AbortSignal | undefined
}

/**
 * Begins with a copy of the derived state, if there is no state yet. One that cannot be had, is damaged, or
 * of another log, is refused: then all is derived from the log.
 */
export async function adoptState(
  generations: GenerationHost,
  storage: Storage,
  { state: from, stateKey, report, signal }: AdoptOptions,
): Promise<void> {
  const { states } = storage
  if (from === undefined || states === undefined) return
  const { live: own } = await readManifest((name) => storage.kept(name))
  if (states.has(own)) return
  let live = own
  const adopt = (generation: number, write: (path: string) => Promise<void>) => {
    live = generation
    return states.adopt(generation, write)
  }
  try {
    if (isPeer(from)) await withStateOf({ url: from, key: stateKey, report, signal }, adopt)
    else await withStateIn(from, adopt)
    const saved = await savedCheckpoint(generations, live)
    // It was set aside, which is reported.
    if (saved === undefined) return await storage.dropStore(live)
    const { log } = generations
    const other = await otherBranch(log, linksOf(saved))
    if (other !== undefined) throw ofOtherBranch(other)
    for (const [partition, position] of saved.positions.entries())
      if (position > (await log.end(partition))) throw ofOtherBranch(partition)
    await generations.programOf(saved.version)
    await writeManifest(storage, { live })
    const message = `The state begins as a copy from ${from}, with ${recordsBefore(saved.positions)} records.`
    report({ level: 'info', code: 'state-adopted', message })
  } catch (caught) {
    await storage.dropStore(live)
    signal?.throwIfAborted()
    const error = fileFailure(caught) ?? caught
    if (!(error instanceof HenceError)) throw error
    const isKey = ['not-authenticated', 'not-allowed'].includes(error.code)
    const hint = isKey ? ' It is given as `stateKey`, or as HENCE_STATE_KEY on the command line.' : ''
    const message = `The copy of the state of ${from} is not used, and all is derived: ${error.message}${hint}`
    report({ level: 'warning', code: 'state-refused', message })
  }
}

async function withStateIn(
  folder: string,
  adopt: (generation: number, write: (path: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const { live } = await readManifest((name) => kept(folder, name))
  const file = join(stateFolder(folder, live), 'data.mdb')
  if (!existsSync(file)) throw noState(folder)
  await adopt(live, (path) => copyFile(file, path))
}
