import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { readManifest } from '../reprocess/manifest.ts'
import { checkLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'

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
 * Reads the last checkpoint in a folder of state, after a check of everything in it; undefined when there is
 * none.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function readCheckpoint(folder: string): Promise<CheckpointSummary | undefined> {
  if (!(await checkLmdbStore(folder, { isInUse: true }))) return undefined
  const store = await openLmdbStore({ directory: folder, collections: ['meta'], readOnly: true })
  try {
    const text = store.get('meta', 'checkpoint')
    return text === undefined ? undefined : JSON.parse(text)
  } finally {
    await store.close()
  }
}
