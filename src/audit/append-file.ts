import type { FileHandle } from 'node:fs/promises'

/** Appends to a file of `bytes` bytes, durably. A call can be repeated after it has failed. */
export function appendTo(file: FileHandle, bytes: number) {
  /** Whether a write has failed, so that part of it may be in the file. */
  let isTorn = false
  const appending = {
    bytes,
    async append(more: Buffer): Promise<void> {
      if (isTorn) await file.truncate(appending.bytes)
      isTorn = true
      await file.appendFile(more)
      await file.datasync()
      isTorn = false
      appending.bytes += more.length
    },
  }
  return appending
}
