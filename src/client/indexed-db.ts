import { retryError, thrownText } from '../failure.ts'
import type { News, OpenOutbox, Others, Outbox, StoredRequest } from './outbox.ts'

/**
 * An outbox in the browser's IndexedDB: it survives reloads, crashes and restarts of the browser. All tabs of
 * an origin that open the same name share it; one of them sends a request at a time, and all receive its
 * outcome. Use a name for each user of a device, or one would send another's requests.
 *
 * With the first request it asks the browser to keep the data when the disk is short of space
 * (`navigator.storage.persist()`); some browsers ask the user. `persist: false` leaves that to the page.
 *
 * @throws HenceError when it is first used: `outbox-failed` (retry), where the browser keeps no data
 */
export function indexedDb({
  name = 'hence',
  persist = true,
}: {
  readonly name?: string
  readonly persist?: boolean
} = {}): Outbox {
  return { open: () => openDatabase(name, persist) }
}

const version = 1
const storeName = 'requests'

async function openDatabase(name: string, persist: boolean): Promise<OpenOutbox> {
  const factory = (globalThis as { indexedDB?: Factory }).indexedDB
  if (factory === undefined) throw unavailable(name, 'there is no IndexedDB here')
  const opening = factory.open(name, version)
  opening.onupgradeneeded = () => {
    // The store's keys give the order in which requests were stored, by whichever tab.
    const store = opening.result.createObjectStore(storeName, { autoIncrement: true })
    store.createIndex('requestId', 'requestId', { unique: true })
  }
  const database = await promised(opening).catch((error) => {
    throw unavailable(name, error)
  })
  // A later version of this library may need to upgrade; this connection must not block it.
  database.onversionchange = () => database.close()
  const others = othersOf(name)
  let asksToPersist = persist
  /** Runs on one transaction, and resolves when it is on disk. */
  const transact = async <T>(mode: 'readonly' | 'readwrite', work: (store: DatabaseStore) => Promise<T>) => {
    try {
      const transaction = database.transaction(storeName, mode, { durability: 'strict' })
      const done = completed(transaction)
      const result = await work(transaction.objectStore(storeName)).catch(async (error) => {
        await done.catch(() => {})
        throw error
      })
      await done
      return result
    } catch (error) {
      throw unavailable(name, error)
    }
  }
  const keyOf = (store: DatabaseStore, requestId: string) =>
    promised(store.index('requestId').getKey(requestId))
  return {
    list: () => transact('readonly', (store) => promised(store.getAll() as DatabaseRequest<StoredRequest[]>)),
    add(request) {
      // Once there is something to lose. A refusal changes nothing, so nobody waits for the answer.
      const { storage } = navigator as { storage?: { persist?(): Promise<boolean> } }
      if (asksToPersist) void storage?.persist?.().catch(() => {})
      asksToPersist = false
      return transact('readwrite', async (store) => {
        if ((await keyOf(store, request.requestId)) === undefined) await promised(store.add(request))
      })
    },
    replace: (request) =>
      transact('readwrite', async (store) => {
        const key = await keyOf(store, request.requestId)
        if (key !== undefined) await promised(store.put(request, key))
      }),
    remove: (requestId) =>
      transact('readwrite', async (store) => {
        const key = await keyOf(store, requestId)
        if (key !== undefined) await promised(store.delete(key))
      }),
    async close() {
      others.close()
      database.close()
    },
    others,
  }
}

/** Tabs talk over a broadcast channel and take turns by Web Locks; without locks they do not take turns. */
function othersOf(name: string): Others & { close(): void } {
  const channel = new BroadcastChannel(`hence:${name}`)
  // In Node the channel would keep the process alive.
  ;(channel as { unref?: () => void }).unref?.()
  const { locks } = navigator as { locks?: Locks }
  return {
    async alone(queue, signal, work) {
      if (locks === undefined) return work()
      await locks.request(`hence:${name}:${queue}`, { signal }, work)
    },
    tell: (news) => channel.postMessage(news),
    hear: (listener) => {
      channel.onmessage = ({ data }: { readonly data: unknown }) => listener(data as News)
    },
    close: () => channel.close(),
  }
}

function promised<T>(request: DatabaseRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

function completed(transaction: DatabaseTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve()
    transaction.onabort = () => reject(transaction.error)
  })
}

const unavailable = (name: string, cause: unknown) =>
  retryError(
    'outbox-failed',
    `The IndexedDB database "${name}" cannot be used: ${thrownText(cause)}. Nothing was sent. Make room, or let ` +
      'the page store data, and try again.',
    { cause },
  )

// The parts of the browser's interfaces that are used here. Node's types lack them, and with the library
// `dom` a use of `document` in the engine would compile.

interface Factory {
  open(name: string, version: number): DatabaseRequest<Database> & { onupgradeneeded: (() => void) | null }
}

interface DatabaseRequest<T> {
  readonly result: T
  readonly error: unknown
  onsuccess: (() => void) | null
  onerror: (() => void) | null
}

interface Database {
  onversionchange: (() => void) | null
  createObjectStore(name: string, options: { autoIncrement: boolean }): DatabaseStore
  transaction(store: string, mode: string, options: { durability: 'strict' }): DatabaseTransaction
  close(): void
}

interface DatabaseTransaction {
  readonly error: unknown
  oncomplete: (() => void) | null
  onabort: (() => void) | null
  objectStore(name: string): DatabaseStore
}

interface DatabaseStore {
  createIndex(name: string, path: string, options: { unique: boolean }): unknown
  index(name: string): { getKey(key: string): DatabaseRequest<number | undefined> }
  getAll(): DatabaseRequest<unknown[]>
  add(value: unknown): DatabaseRequest<unknown>
  put(value: unknown, key: number): DatabaseRequest<unknown>
  delete(key: number): DatabaseRequest<unknown>
}

interface Locks {
  request(name: string, options: { signal: AbortSignal }, work: () => Promise<void>): Promise<void>
}
