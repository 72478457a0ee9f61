import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { readManifest } from '../reprocess/manifest.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/storage.ts'

/** What the derived state says of itself, of which only this much is looked at here. */
export type StateLook = Pick<Checkpoint, 'logId' | 'generation' | 'version' | 'positions' | 'history'>

/**
 * Looks at the last checkpoint of a data directory, also while a process has it open; undefined when there is none.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function lookAtState(directory: string): Promise<StateLook | undefined> {
  return lookAtStore(await liveState(directory))
}

/** The folder of the state that is live, or was when it was last noted. */
export async function liveState(directory: string): Promise<string> {
  const { live } = await readManifest((name) =>
    readFile(join(directory, name), 'utf8').catch(() => undefined),
  )
  return stateFolder(directory, live)
}

/** The generations that have a folder of state in a data directory, in order. */
export async function keptStates(directory: string): Promise<{ generation: number; folder: string }[]> {
  const names: string[] = await readdir(join(directory, 'state')).catch(() => [])
  const numbers = names.flatMap((name) => (/^\d{1,5}$/.test(name) ? Number(name) : []))
  return numbers
    .sort((a, b) => a - b)
    .map((generation) => ({ generation, folder: stateFolder(directory, generation) }))
}

/** Looks at the last checkpoint in a folder of state; undefined when there is none. */
export async function lookAtStore(folder: string): Promise<StateLook | undefined> {
  const names: string[] = await readdir(folder).catch(() => [])
  if (!names.includes('data.mdb')) return undefined
  const store = await openLmdbStore({ directory: folder, collections: ['meta'], readOnly: true })
  try {
    const text = store.get('meta', 'checkpoint')
    return text === undefined ? undefined : JSON.parse(text)
  } catch (error) {
    if (error instanceof HenceError) throw error
    throw new HenceError(
      'state-unreadable',
      'operator',
      `The checkpoint in ${folder} makes no sense: ${error}. It holds nothing that the log does not: stop the ` +
        'process, remove that folder, and start again, and it is derived anew.',
      { cause: error },
    )
  } finally {
    await store.close()
  }
}
