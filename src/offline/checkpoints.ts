import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ifThere } from '../file-failure.ts'
import type { Checkpoint } from '../processor/checkpoint.ts'
import { readManifest } from '../reprocess/manifest.ts'
import { checkLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { stateFolder } from '../storage/states.ts'
import { kept } from '../storage/storage.ts'

export type CheckpointSummary = Pick<
  Checkpoint,
  'logId' | 'generation' | 'version' | 'positions' | 'links' | 'history'
>

/** Reads the last checkpoint of the live generation; undefined if there is none. */
export async function readLiveCheckpoint(directory: string): Promise<CheckpointSummary | undefined> {
  const { live } = await readManifest((name) => kept(directory, name))
  return readCheckpoint(stateFolder(directory, live))
}

/** The generations that have a folder of state in a data directory, in order. */
export async function storedGenerations(
  directory: string,
): Promise<{ readonly generation: number; readonly folder: string }[]> {
  const names = (await ifThere(readdir(join(directory, 'state')))) ?? []
  const numbers = names.flatMap((name) => (/^\d{1,5}$/.test(name) ? Number(name) : []))
  return numbers
    .sort((a, b) => a - b)
    .map((generation) => ({ generation, folder: stateFolder(directory, generation) }))
}

/** Reads the last checkpoint in a folder, after a check of everything in it; undefined if there is none. */
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
