import { HenceError } from 'hence'
import { type MemoryStorage, memoryStorage } from 'hence/testing'

/** Storage in memory whose log can be cut off from one partition: appends to it fail, or are never answered. */
export class CutStorage {
  readonly storage: MemoryStorage
  #cut: { readonly partition: number; readonly silent: boolean } | undefined
  #held: (() => void)[] = []

  constructor(options: Parameters<typeof memoryStorage>[0]) {
    this.storage = memoryStorage(options)
    const { log } = this.storage
    const append = log.append.bind(log)
    log.append = async (partition, records) => {
      if (partition === this.#cut?.partition) {
        if (!this.#cut.silent) throw new HenceError('log-write-failed', 'retry', 'The line is cut.')
        await new Promise<void>((resolve) => this.#held.push(resolve))
      }
      return append(partition, records)
    }
  }

  cut(partition: number, silent = false): void {
    this.#cut = { partition, silent }
  }

  mend(): void {
    this.#cut = undefined
    for (const resolve of this.#held.splice(0)) resolve()
  }
}
