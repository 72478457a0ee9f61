import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, open, type RootDatabase, type RootDatabaseOptions, type Transaction } from 'lmdb'
import { HenceError, shown } from '../failure.ts'
import { checksumLength, checksumOf, collectionSeed } from './checksum.ts'
import { formatKey, LmdbFile, stateFormat, Useless } from './lmdb-file.ts'
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
    const isWritten = checkHeader(directory)
    if (!isWritten && readOnly) throw new Error('nothing has been written')
    // LMDB fails over an empty file, which a process leaves that was killed before its first commit.
    if (!isWritten) rmSync(join(directory, 'data.mdb'), { force: true })
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
    await checkFormat(root, readOnly)
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
    checkHeader(from)
    root = open({ path: from, noSubdir: false, maxDbs: 1, readOnly: true })
    await root.backup(to, false)
  } catch (error) {
    throw unreadable(from, error)
  } finally {
    await root?.close()
  }
}

/**
 * Checks every page and every value of a store before LMDB maps it: see `LmdbFile`.
 * @param options.isInUse whether another process, or this one, may write to it meanwhile
 * @returns whether anything was written
 * @throws HenceError `state-unreadable` (operator)
 */
export async function checkLmdbStore(
  directory: string,
  { isInUse }: { readonly isInUse: boolean },
): Promise<boolean> {
  let root: RootDatabase | undefined
  let file: LmdbFile | undefined
  try {
    if (!checkHeader(directory)) return false
    // LMDB keeps the pages of all versions from that of the oldest reader on.
    if (isInUse) root = open({ path: directory, noSubdir: false, maxDbs: 1, readOnly: true })
    const reader = root?.useReadTransaction()
    file = LmdbFile.open(join(directory, 'data.mdb'))
    try {
      const format = await file?.check()
      if (format !== undefined) requireFormat(format)
      return format !== undefined
    } finally {
      reader?.done()
    }
  } catch (error) {
    throw unreadable(directory, error)
  } finally {
    file?.close()
    await root?.close()
  }
}

/** Whether a state cannot be read since it is damaged or of another format, and not for a passing reason. */
export function isUseless(error: unknown): boolean {
  if (!(error instanceof HenceError) || error.code !== 'state-unreadable') return false
  return error.cause instanceof Useless
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
      const stored = database.get(key, this.#options)
      return stored === undefined ? undefined : checked(collection, collectionSeed(collection), key, stored)
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
    const seed = collectionSeed(collection)
    try {
      for (const { key, value } of database.getRange({ ...range, ...this.#options } as object))
        yield [key, checked(collection, seed, key, value)]
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
          const seed = collectionSeed(collection)
          for (const [key, value] of entries) {
            const written =
              value === undefined ? database.remove(key) : database.put(key, withChecksum(seed, key, value))
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

function withChecksum(seed: number, key: string, value: string | Buffer): string {
  const checksum = checksumOf(seed, key, value)
  if (typeof value === 'string') return value + checksum
  // The binding also takes the bytes of a string.
  return Buffer.concat([value, Buffer.from(checksum)]) as unknown as string
}

function checked(collection: string, seed: number, key: string, stored: string): string {
  const value = stored.slice(0, -checksumLength)
  if (stored.endsWith(checksumOf(seed, key, value))) return value
  throw new Useless(
    `the value of ${shown(JSON.stringify(key))} of "${collection}" does not have its checksum`,
  )
}

/**
 * Checks that LMDB can map its file: the binding ends the process by a signal where the file is shorter than
 * its header says, is not LMDB's, or has another format.
 * @returns whether there is anything in it
 */
function checkHeader(directory: string): boolean {
  const folder = statSync(directory, { throwIfNoEntry: false })
  if (folder?.isDirectory() === false) throw new Useless('it is no folder')
  if (statSync(join(directory, 'lock.mdb'), { throwIfNoEntry: false })?.isDirectory())
    throw new Useless('lock.mdb is a folder')
  let file: LmdbFile | undefined
  try {
    file = LmdbFile.open(join(directory, 'data.mdb'))
    // A process that was killed before its first commit leaves an empty file.
    if (file === undefined || file.isEmpty) return false
    file.header()
    return true
  } finally {
    file?.close()
  }
}

/** Checks the format of a store, and sets that of one in which nothing was written. */
async function checkFormat(root: RootDatabase<string, string>, readOnly: boolean): Promise<void> {
  const stored = root.get(formatKey)
  if (stored !== undefined) requireFormat(checked('', collectionSeed(''), formatKey, stored))
  else if ([...root.getKeys({ limit: 1 })].length > 0) requireFormat('none')
  else if (!readOnly) await root.put(formatKey, withChecksum(collectionSeed(''), formatKey, stateFormat))
}

function requireFormat(format: string): void {
  if (format === stateFormat) return
  throw new Useless(`it has format ${format}, and this version of Hence writes format ${stateFormat}`)
}

function unreadable(directory: string, cause: unknown): HenceError {
  if (cause instanceof HenceError) return cause
  return new HenceError(
    'state-unreadable',
    'operator',
    `The derived state in ${directory} cannot be read: ${cause instanceof Error ? cause.message : cause}. ` +
      'Everything in it can be derived from the log: the next start does so if it finds this damage. ' +
      'Otherwise stop the process, remove that folder, and start again.',
    { cause },
  )
}
