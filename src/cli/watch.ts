import { type FSWatcher, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

/**
 * How long files must be left alone first: an editor may save one file in several steps, and several files at
 * once.
 */
const quietMs = 60

/**
 * Calls back when one of some files has changed. It watches their folders, because many editors save by
 * replacing the file.
 */
export class FileWatch {
  readonly #changed: () => void
  #watchers: FSWatcher[] = []
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(changed: () => void) {
    this.#changed = changed
  }

  /** Watches these files from now on, instead of the previous ones. */
  follow(files: readonly string[]): void {
    this.#stop()
    // A call that began before `close` may continue after it.
    if (this.#isClosed) return
    const folders = Map.groupBy(files, (file) => dirname(file))
    for (const [folder, those] of folders) {
      const names = new Set(those.map((file) => basename(file)))
      const watcher = watch(folder, (_, name) => {
        if (name !== null && !names.has(name)) return
        clearTimeout(this.#timer)
        this.#timer = setTimeout(this.#changed, quietMs)
      })
      watcher.on('error', () => {})
      this.#watchers.push(watcher)
    }
  }

  close(): void {
    this.#isClosed = true
    this.#stop()
    clearTimeout(this.#timer)
  }

  #stop(): void {
    for (const watcher of this.#watchers.splice(0)) watcher.close()
  }
}
