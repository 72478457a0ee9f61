import { type FileHandle, open as openFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, open, type RootDatabase, type RootDatabaseOptions, type Transaction } from 'lmdb'
import { HenceError } from '../failure.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** Passes keys to LMDB as their bytes. */
const keyEncoder = {
  // LMDB's binding also calls this for the default ends of a range, which are buffers.
  writeKey(key: string | Uint8Array, target: Buffer, at: number): number {
    if (typeof key === 'string') target.write(key, at, 'latin1')
    else target.set(key, at)
    // The full length even if the target was too short: the binding detects that by the returned length.
    return at + key.length
  },
  readKey(source: Buffer, start: number, end: number): string {
    return source.toString('latin1', start, end)
  },
}

/**
 * Opens a store in a directory: one LMDB environment with a database per collection. Creates the directory
 * and the collections if they are missing.
 *
 * @throws HenceError `state-unreadable` (operator)
 */
export async function openLmdbStore(options: {
  readonly directory: string
  readonly collections: readonly string[]
  /** Opens an existing store: nothing is created, and `write` fails. Default false. */
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
      // A batch is one write; a commit of its own around it would have a promise that nobody gets.
      eventTurnBatching: false,
      // A commit is durable when it resolves. With a sync of its own, closing never ends after one that
      // failed.
      overlappingSync: false,
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
 * Copies a store, which another process may have open, into an empty directory, as of one moment.
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

/** Reads the latest data, or the snapshot of a transaction. */
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
    // LMDB's binding includes the first end of a range and excludes the second, in either direction. Both
    // ends are always passed, since the binding has defaults of its own.
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
    // All puts within one batch, to any database of the environment, are one transaction.
    let last: Promise<boolean> | undefined
    try {
      await this.#root.batch(() => {
        for (const [collection, entries] of changes) {
          const database = databaseOf(this.#databases, collection)
          for (const [key, value] of entries) {
            // The binding also takes the bytes of a string.
            const written = value === undefined ? database.remove(key) : database.put(key, value as string)
            if (written !== last) handled(written)
            last = written
          }
        }
      })
      await this.#root.flushed
    } catch (error) {
      // The reason, in a promise of its own.
      const { commitError } = error as { commitError?: Promise<never> }
      handled(commitError)
      throw await reasonOf(commitError, error)
    }
  }

  close(): Promise<void> {
    return this.#root.close()
  }
}

/** Its rejection is that of the batch, which is handled; unhandled, it would end the process. */
function handled(promise: Promise<unknown> | undefined): void {
  promise?.catch?.(() => {})
}

/** The reason of a failed commit, if it comes at once. */
async function reasonOf(commitError: Promise<never> | undefined, error: unknown): Promise<unknown> {
  if (commitError === undefined) return error
  const soon = new Promise((resolve) => setImmediate(() => resolve(error)))
  return Promise.race([commitError.catch((reason) => reason), soon])
}

function databaseOf(databases: Databases, collection: string): Database<string, string> {
  const database = databases.get(collection)
  if (database === undefined) throw new Error(`The store was opened without the collection "${collection}".`)
  return database
}

/**
 * Checks the header of LMDB's file, if it exists: the binding crashes with a segmentation fault when it opens
 * a file that is not LMDB's, or that has another format.
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
    // A process that was killed before its first commit leaves an empty file.
    if (size === 0) return
    const { buffer } = await file.read(Buffer.alloc(30), 0, 30, 0)
    if (size < 8_192 || buffer.readUInt32LE(24) !== 0xbeefc0de || buffer.readUInt16LE(28) !== 2) {
      throw new Error('data.mdb is not a file of this LMDB version')
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
      'Everything in it can be derived from the log: stop the process, remove that folder, and start again.',
    { cause },
  )
}
