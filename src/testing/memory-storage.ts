import { type Clock, systemClock } from '../clock.ts'
import type { Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import { type MemoryStore, memoryStore } from '../state/memory-store.ts'
import type { StateName } from '../storage/states.ts'
import type { Storage } from '../storage/storage.ts'

/** Storage in memory. It outlives the engines that use it one after another, like a directory. */
export interface MemoryStorage extends Storage {
  readonly log: Log
}

/** Creates empty storage in memory, for tests: `createEngine({ app, data: memoryStorage() })`. */
export function memoryStorage({
  partitions = 1,
  clock = systemClock,
}: {
  readonly partitions?: number
  readonly clock?: Clock
} = {}): MemoryStorage {
  const log = memoryLog({ partitions, clock })
  const stores = new Map<StateName, MemoryStore>()
  const texts = new Map<string, string>()
  return {
    log,
    async openStore(generation, _, anew) {
      const before = stores.get(generation)
      // A snapshot holds what was durable, so an abandoned engine cannot write into the next one's store.
      const store = anew || !before ? memoryStore() : before.snapshot()
      stores.set(generation, store)
      return store
    },
    async dropStore(generation) {
      stores.delete(generation)
    },
    async keep(name, text) {
      texts.set(name, text)
    },
    kept: async (name) => texts.get(name),
    async close() {},
  }
}
