import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { type Database, open, type RootDatabase, type RootDatabaseOptions, type Transaction } from 'lmdb'
import { HenceError, operatorError } from '../failure.ts'
import { moduleBeside } from '../module-beside.ts'
import { collectionHash, hashOf } from './checksum.ts'
import { CompactStore } from './compact-store.ts'
import { formatKey, LmdbFile, stateFormat, Useless } from './lmdb-file.ts'
import { checked, Encoding, encoder, type Slice } from './lmdb-values.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** A write encodes so many rows in a turn of the event loop, or so many characters of values. */
const turnRows = 2_000
const turnLength = 256 * 1024

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
  /** Called when damage is read, before that throws. */
  readonly damaged?: () => void
  /** The collections that are stored in blocks; for tests. */
  readonly packed?: ReadonlySet<string>
}): Promise<Store> {
  const { directory, readOnly = false, damaged = () => {}, packed } = options
  const collections = CompactStore.collections(options.collections)
  let root: RootDatabase<string, string> | undefined
  try {
    const isWritten = checkHeader(directory)
    if (!isWritten && readOnly) throw new Error('nothing has been written')
    // LMDB fails over an empty file, which a process leaves that was killed before its first commit.
    if (!isWritten) rmSync(join(directory, 'data.mdb'), { force: true })
    root = open<string, string>({
      path: directory,
      noSubdir: false,
      encoder,
      maxDbs: collections.length + 1,
      // A batch is one write; a commit of its own around it would have a promise that nobody gets.
      eventTurnBatching: false,
      // A commit is durable when it resolves. With a sync of its own, closing never ends after one that
      // failed.
      overlappingSync: false,
      readOnly,
    })
    await checkFormat(root, readOnly)
    const databases = new Map<string, StoredCollection>()
    const settings: RootDatabaseOptions = { encoder, keyEncoder }
    for (const name of collections) {
      const database = root.openDB<string, string>(name, settings)
      databases.set(name, { name, hash: collectionHash(name), database })
    }
    const failure = (error: unknown): HenceError => {
      if (error instanceof Useless) damaged()
      return unreadable(directory, error)
    }
    const store = new LmdbStore(root, databases, failure)
    return new CompactStore(store, options.collections, (why) => failure(new Useless(why)), packed)
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
 * @param options.apart check in a thread of its own, for half of the time
 * @returns whether anything was written
 * @throws HenceError `state-unreadable` (operator)
 */
export async function checkLmdbStore(
  directory: string,
  { isInUse, apart }: { readonly isInUse: boolean; readonly apart?: Apart },
): Promise<boolean> {
  const path = join(directory, 'data.mdb')
  let root: RootDatabase | undefined
  let file: LmdbFile | undefined
  try {
    if (!checkHeader(directory)) return false
    // LMDB keeps the pages of all versions from that of the oldest reader on.
    if (isInUse) root = open({ path: directory, noSubdir: false, maxDbs: 1, readOnly: true })
    const reader = root?.useReadTransaction()
    try {
      let format: string | undefined
      // An application that is bundled into one file has no such module.
      if (apart !== undefined && existsSync(threadModule)) format = await checkInThread(path, apart)
      else {
        file = LmdbFile.open(path)
        format = await file?.check()
      }
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

interface Apart {
  /** Called with how much has been checked, from 0 to 1. */
  readonly progress: (done: number) => void
  /** Ends the check. */
  readonly signal: AbortSignal
}

const threadModule = moduleBeside(import.meta.url, 'check-thread')

/** @returns the format of the state; see `LmdbFile.check` */
async function checkInThread(path: string, { progress, signal }: Apart): Promise<string | undefined> {
  const thread = new Worker(threadModule, { workerData: path })
  thread.unref()
  const stop = () => void thread.terminate()
  signal.addEventListener('abort', stop)
  try {
    return await new Promise((resolve, reject) => {
      thread.on('message', (found: { done?: number; damage?: string; format?: string }) => {
        if (found.done !== undefined) progress(found.done)
        else if (found.damage === undefined) resolve(found.format)
        else reject(new Useless(found.damage))
      })
      thread.on('error', reject)
      thread.on('exit', () => reject(new Error('the thread that checks it has ended')))
      if (signal.aborted) stop()
    })
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Whether a store is small enough for a check before it is opened, or is damaged at first sight. */
export function needsCheckFirst(directory: string, bytesMax: number): boolean {
  let file: LmdbFile | undefined
  try {
    file = LmdbFile.open(join(directory, 'data.mdb'))
    return file === undefined || file.bytes <= bytesMax || file.isCut()
  } catch {
    return true
  } finally {
    file?.close()
  }
}

/** Whether a state cannot be read since it is damaged or of another format, and not for a passing reason. */
export function isUseless(error: unknown): boolean {
  if (!(error instanceof HenceError) || error.code !== 'state-unreadable') return false
  return error.cause instanceof Useless
}

interface StoredCollection {
  readonly name: string
  readonly hash: number
  readonly database: Database<string, string>
}

type Databases = ReadonlyMap<string, StoredCollection>

/** The error for one of a read. */
type ReadFailure = (error: unknown) => HenceError

/** Reads the latest data, or the snapshot of a transaction. */
class LmdbReading implements Pick<Store, 'get' | 'range'> {
  readonly #databases: Databases
  readonly #failure: ReadFailure
  readonly #options: { readonly transaction?: Transaction }

  constructor(databases: Databases, failure: ReadFailure, transaction?: Transaction) {
    this.#databases = databases
    this.#failure = failure
    this.#options = transaction === undefined ? {} : { transaction }
  }

  get(collection: string, key: string): string | undefined {
    const { name, hash, database } = databaseOf(this.#databases, collection)
    try {
      const value = database.get(key, this.#options)
      return value === undefined ? undefined : checked(name, hash, key, value)
    } catch (error) {
      throw this.#failure(error)
    }
  }

  *range(collection: string, { from, to, reverse }: KeyRange = {}): Iterable<[string, string]> {
    const { name, hash, database } = databaseOf(this.#databases, collection)
    // LMDB's binding includes the first end of a range and excludes the second, in either direction. Both
    // ends are always passed, since the binding has defaults of its own.
    const range = reverse
      ? { start: to, end: from, reverse: true, exclusiveStart: true, inclusiveEnd: true }
      : { start: from, end: to }
    try {
      for (const { key, value } of database.getRange({ ...range, ...this.#options } as object))
        yield [key, checked(name, hash, key, value)]
    } catch (error) {
      throw this.#failure(error)
    }
  }
}

class LmdbStore implements Store {
  readonly #root: RootDatabase<string, string>
  readonly #databases: Databases
  readonly #failure: ReadFailure
  readonly #newest: LmdbReading

  constructor(root: RootDatabase<string, string>, databases: Databases, failure: ReadFailure) {
    this.#root = root
    this.#databases = databases
    this.#failure = failure
    this.#newest = new LmdbReading(databases, failure)
  }

  get(collection: string, key: string): string | undefined {
    return this.#newest.get(collection, key)
  }

  range(collection: string, range: KeyRange = {}): Iterable<[string, string]> {
    return this.#newest.range(collection, range)
  }

  view(): StoreView {
    const transaction = this.#root.useReadTransaction()
    const then = new LmdbReading(this.#databases, this.#failure, transaction)
    return {
      get: (collection, key) => then.get(collection, key),
      range: (collection, range) => then.range(collection, range),
      close: () => transaction.done(),
    }
  }

  async write(changes: Iterable<CollectionChanges>): Promise<void> {
    // By row. Objects would be moved by the garbage collector, which costs more than encoding them.
    const databases: Database<string, string>[] = []
    const keys: string[] = []
    const slices: (Slice | undefined)[] = []
    const ends: number[] = []
    const encoding = new Encoding()
    let [rows, length] = [0, 0]
    const rest = (): Promise<void> | undefined => {
      if (++rows < turnRows && length < turnLength) return undefined
      rows = length = 0
      return turn()
    }
    for (const [collection, entries] of changes) {
      const { hash, database } = databaseOf(this.#databases, collection)
      for (const [key, value] of entries) {
        const slice = value === undefined ? undefined : encoding.encode(hashOf(key, hash), value)
        databases.push(database)
        keys.push(key)
        slices.push(slice)
        ends.push(slice?.start ?? 0, slice?.end ?? 0)
        length += value?.length ?? 0
        const resting = rest()
        if (resting) await resting
      }
      await rest()
    }
    // All puts within one batch, to any database of the environment, are one transaction.
    let last: Promise<boolean> | undefined
    try {
      await this.#root.batch(() => {
        for (let i = 0; i < keys.length; i++) {
          const slice = slices[i]
          if (slice !== undefined) [slice.start, slice.end] = [ends[2 * i]!, ends[2 * i + 1]!]
          const written =
            slice === undefined
              ? databases[i]!.remove(keys[i]!)
              : databases[i]!.put(keys[i]!, slice as unknown as string)
          if (written !== last) handled(written)
          last = written
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

function databaseOf(databases: Databases, collection: string): StoredCollection {
  const database = databases.get(collection)
  if (database === undefined) throw new Error(`The store was opened without the collection "${collection}".`)
  return database
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
    if (file === undefined || file.bytes === 0) return false
    file.header()
    return true
  } finally {
    file?.close()
  }
}

/** Checks the format of a store, and sets that of one in which nothing was written. */
async function checkFormat(root: RootDatabase<string, string>, readOnly: boolean): Promise<void> {
  const stored = root.get(formatKey)
  const hash = collectionHash('')
  if (stored !== undefined) requireFormat(checked('', hash, formatKey, stored))
  else if ([...root.getKeys({ limit: 1 })].length > 0) requireFormat('none')
  else if (!readOnly) {
    const slice = new Encoding().encode(hashOf(formatKey, hash), stateFormat)
    await root.put(formatKey, slice as unknown as string)
  }
}

function requireFormat(format: string): void {
  if (format === stateFormat) return
  throw new Useless(`it has format ${format}, and this version of Hence writes format ${stateFormat}`)
}

function unreadable(directory: string, cause: unknown): HenceError {
  if (cause instanceof HenceError) return cause
  return operatorError(
    'state-unreadable',
    `The derived state in ${directory} cannot be read: ${cause instanceof Error ? cause.message : cause}. ` +
      'Everything in it can be derived from the log: the next start does so if it finds this damage. ' +
      'Otherwise stop the process, remove that folder, and start again.',
    { cause },
  )
}
