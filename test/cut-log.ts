import { HenceError } from 'hence'
import type { Log } from '../src/log/log.ts'

/** Storage whose log can be cut off from one partition: appends to it fail, or are never answered. */
export class CutStorage<S extends { readonly log: Log }> {
  readonly storage: S
  #cut: { readonly partition: number; readonly silent: boolean } | undefined
  #held: (() => void)[] = []

  constructor(storage: S) {
    this.storage = storage
    const { log } = storage
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
