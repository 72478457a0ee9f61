import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { readManifest } from '../reprocess/manifest.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { kept, stateFolder } from '../storage/storage.ts'

/** The part of a checkpoint that offline work reads. */
export type CheckpointSummary = Pick<
  Checkpoint,
  'logId' | 'generation' | 'version' | 'positions' | 'links' | 'history'
>

/**
 * Reads the last checkpoint of the live generation; undefined when there is none. A process may have the
 * directory open.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function readLiveCheckpoint(directory: string): Promise<CheckpointSummary | undefined> {
  const { live } = await readManifest((name) => kept(directory, name))
  return readCheckpoint(stateFolder(directory, live))
}

/** The generations that have a folder of state in a data directory, in order. */
export async function storedGenerations(
  directory: string,
): Promise<{ readonly generation: number; readonly folder: string }[]> {
  const names: string[] = await readdir(join(directory, 'state')).catch(() => [])
  const numbers = names.flatMap((name) => (/^\d{1,5}$/.test(name) ? Number(name) : []))
  return numbers
    .sort((a, b) => a - b)
    .map((generation) => ({ generation, folder: stateFolder(directory, generation) }))
}

/**
 * Reads the last checkpoint in a folder of state; undefined when there is none.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function readCheckpoint(folder: string): Promise<CheckpointSummary | undefined> {
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
      `The checkpoint in ${folder} is not valid: ${error}. The state holds nothing that the log does not: stop the ` +
        'process, remove that folder, and start again to derive it anew.',
      { cause: error },
    )
  } finally {
    await store.close()
  }
}
