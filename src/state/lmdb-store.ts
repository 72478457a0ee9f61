import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { type Database, open, type RootDatabase, type RootDatabaseOptions, type Transaction } from 'lmdb'
import { assert } from '../assert.ts'
import type { HenceError } from '../failure.ts'
import { collectionHash, hashOf } from './checksum.ts'
import { CompactStore } from './compact-store.ts'
import { formatKey, stateFormat, Useless } from './lmdb-file.ts'
import { checkHeader, readElsewhere, requireFormat, tryFiles, tryWrite, unreadable } from './lmdb-files.ts'
import { checked, Encoding, encoder, type Slice } from './lmdb-values.ts'
import type { CollectionChanges, KeyRange, Store, StoreView } from './store.ts'

/** A write encodes so many rows in a turn of the event loop, or so many characters of values. */
const turnRows = 1_000
const turnLength = 256 * 1024
/** With 300,000 rows in its queue LMDB's binding stops this thread until its writer has taken some. */
const queuedMax = 200_000

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
  const openRoot = () =>
    open<string, string>({
      path: directory,
      noSubdir: false,
      encoder,
      maxDbs: collections.length + 1,
      // A batch is one write; a commit of its own around it would have a promise that nobody gets.
      eventTurnBatching: false,
      // A commit is durable when it resolves. With a sync of its own, closing never ends after a failure.
      overlappingSync: false,
      readOnly,
    })
  let root: RootDatabase<string, string> | undefined
  try {
    const isWritten = checkHeader(directory)
    if (!isWritten && readOnly) throw new Error('nothing has been written')
    // LMDB fails over an empty file, which a process leaves that was killed before its first commit.
    if (!isWritten) rmSync(join(directory, 'data.mdb'), { force: true })
    tryFiles(directory, readOnly)
    root = openRoot()
    await checkFormat(root, readOnly)
    const failure = (error: unknown): HenceError => {
      if (error instanceof Useless) damaged()
      return unreadable(directory, error)
    }
    const store = new LmdbStore({ directory, collections, openRoot, failure }, root)
    return new CompactStore(store, options.collections, (why) => failure(new Useless(why)), packed)
  } catch (error) {
    await root?.close()
    throw unreadable(directory, error)
  }
}

interface StoredCollection {
  readonly name: string
  readonly hash: number
  /** Undefined where a process ended before it had made all of a new store: then nothing is in it. */
  readonly database: Database<string, string> | undefined
}

type Databases = ReadonlyMap<string, StoredCollection>

type ReadFailure = (error: unknown) => HenceError

/** A transaction ends when each use of it is done. */
type HeldTransaction = Transaction & { use(): void }

/** Reads the snapshot of a transaction. */
class LmdbReading implements Pick<Store, 'get' | 'range'> {
  readonly transaction: HeldTransaction
  readonly #databases: Databases
  readonly #failure: ReadFailure
  readonly #options: { readonly transaction: Transaction }

  constructor(databases: Databases, failure: ReadFailure, transaction: HeldTransaction) {
    this.transaction = transaction
    this.#databases = databases
    this.#failure = failure
    this.#options = { transaction }
  }

  get(collection: string, key: string): string | undefined {
    const { name, hash, database } = databaseOf(this.#databases, collection)
    try {
      const value = database?.get(key, this.#options)
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
      for (const { key, value } of database?.getRange({ ...range, ...this.#options } as object) ?? [])
        yield [key, checked(name, hash, key, value)]
    } catch (error) {
      throw this.#failure(error)
    }
  }
}

interface Opening {
  readonly directory: string
  readonly collections: readonly string[]
  readonly openRoot: () => RootDatabase<string, string>
  readonly failure: ReadFailure
}

/**
 * After a failed write of a header page LMDB begins no transaction any more, not even for reading, until its
 * environment is closed and opened again. So a transaction that began before each write is read from while
 * the write goes on, and on after one that failed, until all has been opened again.
 */
class LmdbStore implements Store {
  readonly #opening: Opening
  #root: RootDatabase<string, string>
  #databases: Databases
  /**
   * The data of the last write, until the next one has succeeded: to hold one transaction costs less than to
   * begin one, with a timer, in each turn that reads. Undefined between an environment that is closed and one
   * that cannot be opened.
   */
  #newest: LmdbReading | undefined
  /** Whether the last write has failed, until its environment is closed. */
  #hasFailed = false
  #views = 0
  #encoding = new Encoding()
  #writing: Promise<void> | undefined
  #isClosed = false

  constructor(opening: Opening, root: RootDatabase<string, string>) {
    this.#opening = opening
    this.#root = root
    this.#databases = databasesOf(root, opening.collections)
    this.#newest = this.#latest()
  }

  #latest(): LmdbReading {
    // One that was begun in this turn may be older.
    this.#root.resetReadTxn()
    const transaction = this.#root.useReadTransaction() as HeldTransaction
    return new LmdbReading(this.#databases, this.#opening.failure, transaction)
  }

  get #now(): LmdbReading {
    return this.#newest ?? this.#open()
  }

  get(collection: string, key: string): string | undefined {
    return this.#now.get(collection, key)
  }

  range(collection: string, range: KeyRange = {}): Iterable<[string, string]> {
    return this.#now.range(collection, range)
  }

  view(): StoreView {
    const reading = this.#now
    reading.transaction.use()
    this.#views++
    return {
      get: (collection, key) => reading.get(collection, key),
      range: (collection, range) => reading.range(collection, range),
      close: () => {
        reading.transaction.done()
        this.#views--
        void this.#openAgain()
      },
    }
  }

  write(changes: Iterable<CollectionChanges>): Promise<void> {
    const writing = this.#write(changes)
    this.#writing = writing
    return writing
  }

  async #write(changes: Iterable<CollectionChanges>): Promise<void> {
    const before = this.#now
    if (this.#hasFailed) throw new Error('an earlier write failed, and it is not open again yet')
    /** Where the rows of a collection end. */
    const databases: { readonly database: Database<string, string>; readonly end: number }[] = []
    // By row. Objects would be moved by the garbage collector, which costs more than encoding them.
    const keys: string[] = []
    const slices: (Slice | undefined)[] = []
    const ends: number[] = []
    // After a failure LMDB may still read from its buffers.
    const encoding = this.#encoding
    this.#encoding = new Encoding()
    let [rows, length, bytes] = [0, 0, 0]
    const rest = (): Promise<void> | undefined => {
      if (++rows < turnRows && length < turnLength) return undefined
      rows = length = 0
      return turn()
    }
    // The turn that begins a write has done enough.
    await turn()
    for (const [collection, entries] of changes) {
      const { hash, database } = databaseOf(this.#databases, collection)
      for (const [key, value] of entries) {
        const slice = value === undefined ? undefined : encoding.encode(hashOf(key, hash), value)
        keys.push(key)
        slices.push(slice)
        ends.push(slice?.start ?? 0, slice?.end ?? 0)
        if (slice !== undefined) bytes += slice.end - slice.start
        length += value?.length ?? 0
        const resting = rest()
        if (resting) await resting
      }
      databases.push({ database: database!, end: keys.length })
      await rest()
    }
    await tryWrite(this.#opening.directory, bytes)
    let [row, of] = [0, 0]
    let last: Promise<boolean> | undefined
    const queue = (until: number): void => {
      for (; row < Math.min(until, keys.length); row++) {
        while (row === databases[of]!.end) of++
        const { database } = databases[of]!
        const slice = slices[row]
        if (slice !== undefined) {
          slice.start = ends[2 * row]!
          slice.end = ends[2 * row + 1]!
        }
        const written =
          slice === undefined
            ? database.remove(keys[row]!)
            : database.put(keys[row]!, slice as unknown as string)
        if (written !== last) handled(written)
        last = written
      }
    }
    // The writer thread makes one transaction of all that is queued when it begins, and here rows are only
    // queued. A batch is one turn of the event loop.
    const begin = holdWriter(this.#root)
    try {
      let commit: Promise<boolean> | undefined
      while (row < keys.length) {
        if (row > 0) await turn()
        const batch = this.#root.batch(() => {
          queue(row + turnRows)
          if (row < queuedMax || row === keys.length) return
          // The writer waits for the end of a batch that is open.
          begin()
          queue(keys.length)
        })
        handled(batch)
        assert(commit === undefined || commit === batch, 'all rows are written in one transaction')
        commit = batch
      }
      begin()
      await commit
      await this.#root.flushed
    } catch (error) {
      begin()
      this.#hasFailed = true
      return await throwReason(error)
    }
    encoding.clear()
    this.#encoding = encoding
    this.#newest = this.#latest()
    before.transaction.done()
  }

  /** After a failed write, once nobody reads from a view: closes the environment, and opens it again. */
  async #openAgain(): Promise<void> {
    const root = this.#root as WithEnd
    const isDue = () => this.#hasFailed && this.#views === 0 && root === this.#root
    if (!isDue()) return
    try {
      checkHeader(this.#opening.directory)
      tryFiles(this.#opening.directory)
    } catch {
      return // The next checkpoint tries again; meanwhile all can be read.
    }
    // Waits for what is under way, so that closing does not wait, and nobody reads in between.
    await root._endWrites?.()
    if (!isDue() || this.#isClosed || readElsewhere.includes(this.#opening.directory)) return
    root._endWrites = undefined
    void root.close()
    this.#hasFailed = false
    this.#newest = undefined
    try {
      this.#open()
    } catch {} // Each read tries again.
  }

  #open(): LmdbReading {
    const { directory, collections, openRoot, failure } = this.#opening
    let root: RootDatabase<string, string> | undefined
    try {
      checkHeader(directory)
      tryFiles(directory)
      root = openRoot()
      this.#databases = databasesOf(root, collections)
      this.#root = root
      this.#newest = this.#latest()
      return this.#newest
    } catch (error) {
      void root?.close()
      throw failure(error)
    }
  }

  async close(): Promise<void> {
    // Otherwise the rows that are queued already would be committed without the rest.
    await this.#writing?.catch(() => {})
    this.#isClosed = true
    await this.#root.close()
  }
}

/** Lets the writer thread of LMDB's binding begin no transaction until the returned function is called. */
function holdWriter(root: RootDatabase<string, string>): () => void {
  const { env } = root as unknown as { readonly env: { startWriting(...given: unknown[]): void } }
  let held: unknown[] | undefined
  const hold = (...given: unknown[]): void => {
    held = given
  }
  Object.defineProperty(env, 'startWriting', { value: hold, configurable: true })
  return () => {
    if (env.startWriting !== hold) return
    delete (env as Partial<typeof env>).startWriting
    if (held !== undefined) env.startWriting(...held)
  }
}

/** LMDB's binding waits by this for its writes before it closes. */
type WithEnd = RootDatabase<string, string> & { _endWrites?: (() => Promise<void> | undefined) | undefined }

function databasesOf(root: RootDatabase<string, string>, collections: readonly string[]): Databases {
  const databases = new Map<string, StoredCollection>()
  const settings: RootDatabaseOptions = { encoder, keyEncoder }
  for (const name of collections) {
    const database = root.openDB<string, string>(name, settings) as Database<string, string> | undefined
    databases.set(name, { name, hash: collectionHash(name), database })
  }
  return databases
}

/** Its rejection is that of the batch, which is handled; unhandled, it would end the process. */
function handled(promise: Promise<unknown> | undefined): void {
  promise?.catch?.(() => {})
}

/** Throws the reason of a failed commit, if it comes at once: it has a promise of its own. */
async function throwReason(error: unknown): Promise<never> {
  const { commitError } = error as { commitError?: Promise<never> }
  if (commitError === undefined) throw error
  handled(commitError)
  const soon = new Promise<never>((_, reject) => setImmediate(reject, error))
  throw await Promise.race([commitError, soon]).catch((reason) => reason)
}

function databaseOf(databases: Databases, collection: string): StoredCollection {
  const database = databases.get(collection)
  if (database === undefined) throw new Error(`The store was opened without the collection "${collection}".`)
  return database
}

/** Checks the format of a store, and sets that of one in which nothing was written. */
async function checkFormat(root: RootDatabase<string, string>, readOnly: boolean): Promise<void> {
  const stored = root.get(formatKey)
  const hash = collectionHash('')
  if (stored !== undefined) requireFormat(checked('', hash, formatKey, stored))
  else if ([...root.getKeys({ limit: 1 })].length > 0) requireFormat('none')
  else if (!readOnly) {
    const slice = new Encoding().encode(hashOf(formatKey, hash), stateFormat)
    await root.put(formatKey, slice as unknown as string).catch(throwReason)
  }
}
