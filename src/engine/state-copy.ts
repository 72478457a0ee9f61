import { changeError } from '../failure.ts'
import type { Generation } from '../generation/generation.ts'
import type { Storage } from '../storage/storage.ts'

/** A copy of the derived state, as its last checkpoint left it. */
export interface StateCopy {
  readonly generation: number
  readonly bytes: number
  /** Its parts, once. */
  parts(): AsyncIterable<Uint8Array>
  /** Frees its space on the disk. */
  drop(): void
}

export async function copyState({ states }: Storage, live: Generation): Promise<StateCopy> {
  const { number: generation, store } = live
  const isSaved = store.get('meta', 'checkpoint') !== undefined
  const file = isSaved ? await states?.copy(generation) : undefined
  if (file === undefined) throw noState('This process')
  const { size: bytes } = await file.stat()
  return { generation, bytes, parts: () => file.createReadStream(), drop: () => void file.close() }
}

export const noState = (where: string) =>
  changeError(
    'no-state',
    `${where} has no derived state: it is not there, or has not come to its first checkpoint. Check the name, or ask again later.`,
  )
