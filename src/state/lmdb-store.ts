import { type FileHandle, open as openFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, open, type RootDatabase, type RootDatabaseOptions, type Transaction } from 'lmdb'
import { HenceError } from '../failure.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** Keys go to LMDB and come back as the bytes they are. */
const keyEncoder = {
  // LMDB's binding also calls this for the default ends of a range, which are buffers.
  writeKey(key: string | Uint8Array, target: Buffer, at: number): number {
    if (typeof key === 'string') target.write(key, at, 'latin1')
    else target.set(key, at)
    // The whole length, also when the target was too short: that is how the binding sees that it was.
    return at + key.length
  },
  readKey(source: Buffer, start: number, end: number): string {
    return source.toString('latin1', start, end)
  },
}

/**
 * Opens a store in a directory: one LMDB environment, in it a database for each collection. The directory
 * and the collections are made when they are missing.
 *
 * @throws HenceError `state-unreadable` (operator)
 */
export async function openLmdbStore(options: {
  readonly directory: string
  readonly collections: readonly string[]
  /** Only to look at one that is there: nothing is made, and `write` fails. Default false. */
  readonly readOnly?: boolean
}): Promise<Store> {
  const { directory, collections, readOnly = false } = options
  let root: RootDatabase<string, string> | undefined
  try {
    await checkHeader(join(directory, 'data.mdb'))
    root = open<string, string>({
      path: directory,
      noSubdir: false,
      encoding: 'string',
      maxDbs: collections.length + 1,
      readOnly,
    })
    const databases = new Map<string, Database<string, string>>()
    const settings: RootDatabaseOptions = { encoding: 'string', keyEncoder }
    for (const name of collections) databases.set(name, root.openDB<string, string>(name, settings))
    return new LmdbStore(directory, root, databases)
  } catch (error) {
    await root?.close()
    throw unreadable(directory, error)
  }
}

/**
 * Copies a store that another process may have open into an empty directory: as it was at one moment.
 * @throws HenceError `state-unreadable` (operator)
 */
export async function copyLmdbStore(from: string, to: string): Promise<void> {
  let root: RootDatabase | undefined
  try {
    await checkHeader(join(from, 'data.mdb'))
    root = open({ path: from, noSubdir: false, maxDbs: 1, readOnly: true })
    await root.backup(to, false)
  } catch (error) {
    throw unreadable(from, error)
  } finally {
    await root?.close()
  }
}

type Databases = ReadonlyMap<string, Database<string, string>>

/** Reads what was written last, or what a transaction sees. */
class LmdbReading implements Pick<Store, 'get' | 'range'> {
  readonly #directory: string
  readonly #databases: Databases
  readonly #options: { readonly transaction?: Transaction }

  constructor(directory: string, databases: Databases, transaction?: Transaction) {
    this.#directory = directory
    this.#databases = databases
    this.#options = transaction === undefined ? {} : { transaction }
  }

  get(collection: string, key: string): string | undefined {
    const database = databaseOf(this.#databases, collection)
    try {
      return database.get(key, this.#options)
    } catch (error) {
      throw unreadable(this.#directory, error)
    }
  }

  *range(collection: string, { from, to, reverse }: KeyRange = {}): Iterable<[string, string]> {
    const database = databaseOf(this.#databases, collection)
    // LMDB's binding takes the first end of a range as included and the second one as not, whichever the
    // direction. Both are given always, since it has ends of its own for those left out.
    const range = reverse
      ? { start: to, end: from, reverse: true, exclusiveStart: true, inclusiveEnd: true }
      : { start: from, end: to }
    try {
      for (const { key, value } of database.getRange({ ...range, ...this.#options } as object))
        yield [key, value]
    } catch (error) {
      throw unreadable(this.#directory, error)
    }
  }
}

class LmdbStore implements Store {
  readonly #directory: string
  readonly #root: RootDatabase<string, string>
  readonly #databases: Databases
  readonly #newest: LmdbReading

  constructor(directory: string, root: RootDatabase<string, string>, databases: Databases) {
    this.#directory = directory
    this.#root = root
    this.#databases = databases
    this.#newest = new LmdbReading(directory, databases)
  }

  get(collection: string, key: string): string | undefined {
    return this.#newest.get(collection, key)
  }

  range(collection: string, range: KeyRange = {}): Iterable<[string, string]> {
    return this.#newest.range(collection, range)
  }

  view(): StoreView {
    const transaction = this.#root.useReadTransaction()
    const then = new LmdbReading(this.#directory, this.#databases, transaction)
    return {
      get: (collection, key) => then.get(collection, key),
      range: (collection, range) => then.range(collection, range),
      close: () => transaction.done(),
    }
  }

  async write(changes: Iterable<CollectionChanges>): Promise<void> {
    // Puts to any database of the environment within one batch are one transaction.
    await this.#root.batch(() => {
      for (const [collection, entries] of changes) {
        const database = databaseOf(this.#databases, collection)
        for (const [key, value] of entries) {
          if (value === undefined) database.remove(key)
          else database.put(key, value as string) // The binding takes a string's bytes as well.
        }
      }
    })
    await this.#root.flushed
  }

  close(): Promise<void> {
    return this.#root.close()
  }
}

function databaseOf(databases: Databases, collection: string): Database<string, string> {
  const database = databases.get(collection)
  if (database === undefined) throw new Error(`The store was opened without a collection "${collection}".`)
  return database
}

/**
 * Looks at the beginning of LMDB's file, if there is one: the binding ends the process with a segmentation
 * fault when it opens a file that is none of LMDB's or is of another format.
 *
 *   0   header of the first meta page
 *   24  magic BE EF C0 DE, little-endian
 *   28  format version, 2 bytes, little-endian
 */
async function checkHeader(path: string): Promise<void> {
  let file: FileHandle
  try {
    file = await openFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    const { size } = await file.stat()
    // A process that was stopped before its first commit leaves an empty file.
    if (size === 0) return
    const { buffer } = await file.read(Buffer.alloc(30), 0, 30, 0)
    if (size < 8_192 || buffer.readUInt32LE(24) !== 0xbeefc0de || buffer.readUInt16LE(28) !== 2) {
      throw new Error('data.mdb is not a file of this version of LMDB')
    }
  } finally {
    await file.close()
  }
}

function unreadable(directory: string, cause: unknown): HenceError {
  return new HenceError(
    'state-unreadable',
    'operator',
    `The derived state in ${directory} cannot be read: ${cause instanceof Error ? cause.message : cause}. ` +
      'It holds nothing that the log does not: stop the process, remove that folder, and start again, and it ' +
      'is derived anew.',
    { cause },
  )
}
