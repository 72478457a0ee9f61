import { HenceError, type Storage } from 'hence'
import type { Clock } from '../../src/clock.ts'
import type { Log } from '../../src/log/log.ts'
import { memoryLog } from '../../src/log/memory-log.ts'
import { type MemoryStore, memoryStore } from '../../src/state/memory-store.ts'
import type { StateName } from '../../src/storage/states.ts'

/**
 * Storage in memory that can crash at any moment. After a crash nothing that its engine does arrives, and no
 * call under way settles. An append under way has arrived or not, at random; so has one that fails, and the
 * engine has to find out which.
 */
export class CrashingStorage {
  readonly log: Log
  readonly #random: () => number
  readonly #failing: number
  readonly #saved: (store: MemoryStore) => void
  readonly #stores = new Map<StateName, MemoryStore>()
  readonly #texts = new Map<string, string>()
  #life = 0

  constructor(options: {
    readonly partitions: number
    readonly clock: Clock
    readonly id: string
    readonly random: () => number
    /** The probability that an append fails; default 0. */
    readonly failing?: number
    /** Called with every checkpoint, as the next engine would find it. */
    readonly saved?: (store: MemoryStore) => void
  }) {
    this.log = memoryLog(options)
    this.#random = options.random
    this.#failing = options.failing ?? 0
    this.#saved = options.saved ?? (() => {})
  }

  /**
   * The storage of one engine, until the next crash.
   * @param isBare only the log, as if everything derived from it were lost
   */
  open(isBare = false): Storage {
    if (isBare) {
      this.#stores.clear()
      for (const name of this.#texts.keys()) if (name.startsWith('state/')) this.#texts.delete(name)
    }
    const life = ++this.#life
    const isCut = () => life !== this.#life
    const never = new Promise<never>(() => {})
    // Some turns of the event loop, so that batches gather and timings differ.
    const delay = async () => {
      for (let turns = Math.floor(this.#random() * 4); turns > 0; turns--) await new Promise(setImmediate)
    }
    const { log } = this
    const fails = () => this.#failing > 0 && this.#random() < this.#failing
    const hasArrived = () => this.#random() < 0.5
    const saved = this.#saved
    return {
      log: {
        id: log.id,
        partitions: log.partitions,
        async append(partition, records) {
          await delay()
          if (isCut()) return never
          const isFailing = fails()
          if (isFailing && !hasArrived()) throw failed()
          const appended = await log.append(partition, records)
          await delay()
          if (isCut()) return never
          if (isFailing) throw failed()
          return appended
        },
        // A crashed engine must not read the next engine's records, or it would raise an alarm about them.
        async *read(partition, from) {
          for await (const batch of log.read(partition, from)) {
            if (isCut()) await never
            yield batch
          }
        },
        follow: (clock) => log.follow!(clock),
        end: (partition) => (isCut() ? never : log.end(partition)),
        async close() {},
      },
      openStore: async (generation, _, anew) => {
        const before = this.#stores.get(generation)
        const store = anew || !before ? memoryStore() : before.snapshot()
        this.#stores.set(generation, store)
        return {
          get: (collection, key) => store.get(collection, key),
          range: (collection, range) => store.range(collection, range),
          async write(changes) {
            const all = [...changes].map(([name, entries]) => [name, [...entries]] as const)
            await delay()
            if (isCut()) return never
            await store.write(all)
            saved(store.snapshot())
            await delay()
            return isCut() ? never : undefined
          },
          view: () => store.view(),
          async close() {},
        }
      },
      dropStore: async (generation) => {
        await delay()
        if (isCut()) return never
        this.#stores.delete(generation)
      },
      keep: async (name, text) => {
        await delay()
        if (isCut()) return never
        this.#texts.set(name, text)
        await delay()
        return isCut() ? never : undefined
      },
      kept: async (name) => this.#texts.get(name),
      async close() {},
    }
  }

  /** Crashes the current engine. */
  crash(): void {
    this.#life++
    // A checkpoint under way may still reach the old store. The next engine must not see half of it.
    for (const [generation, store] of this.#stores) this.#stores.set(generation, store.snapshot())
  }
}

function failed(): HenceError {
  return new HenceError('log-write-failed', 'retry', 'The disk did not answer.')
}
