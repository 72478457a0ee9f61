import { type FSWatcher, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

/** How long files must be left alone first: an editor may save in several steps, and several files. */
const quietMs = 60

/** Calls back when one of the files that it follows has changed. It watches folders: many editors replace files. */
export function fileWatch(changed: () => void) {
  let watchers: FSWatcher[] = []
  let timer: NodeJS.Timeout | undefined
  let isClosed = false
  const stop = () => {
    for (const watcher of watchers) watcher.close()
    watchers = []
  }
  return {
    follow(files: readonly string[]): void {
      stop()
      // A call that began before `close` may continue after it.
      if (isClosed) return
      for (const [folder, those] of Map.groupBy(files, (file) => dirname(file))) {
        const names = new Set(those.map((file) => basename(file)))
        const watcher = watch(folder, (_, name) => {
          if (name !== null && !names.has(name)) return
          clearTimeout(timer)
          timer = setTimeout(changed, quietMs)
        })
        watcher.on('error', () => {})
        watchers.push(watcher)
      }
    },
    close(): void {
      isClosed = true
      stop()
      clearTimeout(timer)
    },
  }
}
