import { type Clock, systemClock } from '../clock.ts'
import type { Log } from '../log/log.ts'
import { memoryLog } from '../log/memory-log.ts'
import { type MemoryStore, memoryStore } from '../state/memory-store.ts'
import type { Storage } from '../storage.ts'

/** Storage in memory: it outlasts the engines that use it one after another, as a directory would. */
export interface MemoryStorage extends Storage {
  readonly log: Log
}

/** Makes an empty one, for tests: `createEngine({ app, data: memoryStorage() })`. */
export function memoryStorage({
  partitions = 1,
  clock = systemClock,
}: {
  readonly partitions?: number
  readonly clock?: Clock
} = {}): MemoryStorage {
  const log = memoryLog({ partitions, clock })
  let store: MemoryStore | undefined
  return {
    log,
    async openStore(_, anew) {
      // A snapshot holds what was durable, so an engine that was dropped half-way cannot reach into the next one.
      store = anew || !store ? memoryStore() : store.snapshot()
      return store
    },
    async keepCode() {},
    async close() {},
  }
}
