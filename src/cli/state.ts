import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'

/** What the derived state says of itself, of which only this much is looked at here. */
export interface StateLook {
  readonly logId: string
  /** The version of the code that derived it. */
  readonly version: string
  /** The offset that each partition was derived up to. */
  readonly positions: readonly number[]
}

/**
 * Looks at the last checkpoint of a data directory, also while a process has it open; undefined when there is none.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function lookAtState(directory: string, name = 'state'): Promise<StateLook | undefined> {
  const folder = join(directory, name)
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
