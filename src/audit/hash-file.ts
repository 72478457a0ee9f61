import { readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Hash } from './tree.ts'

const hashBytes = 32

export type HashFile = NonNullable<Awaited<ReturnType<typeof openHashFile>>>

/**
 * Opens or makes a file of hashes, one after the other, 32 bytes each, and truncates it to its first `length`
 * hashes. A pushed hash stays in memory until `save`. The file can be derived again from the log, so it has
 * no checksum: comparing the root of its tree with a signed head shows whether it is whole.
 * @returns undefined if it holds fewer
 */
export async function openHashFile(path: string, length: number) {
  const file = await open(path, 'a+', 0o600)
  try {
    const { size } = await file.stat()
    if (size < length * hashBytes) {
      await file.close()
      return undefined
    }
    await file.truncate(length * hashBytes)
  } catch (error) {
    await file.close()
    throw error
  }
  let saved = length
  let pending: Hash[] = []
  /** Whether a write has failed, so that part of it may be in the file. */
  let isTorn = false
  return {
    get length() {
      return saved + pending.length
    },
    get unsaved() {
      return pending.length
    },
    at(index: number): Hash {
      if (index >= saved) return pending[index - saved]!
      const hash = Buffer.allocUnsafe(hashBytes)
      // A proof takes a few dozen of these, from pages that the system has in memory.
      if (readSync(file.fd, hash, 0, hashBytes, index * hashBytes) < hashBytes) {
        throw new Error(`The file of hashes ends before hash ${index}.`)
      }
      return hash
    },
    push: (hash: Hash) => void pending.push(hash),
    /** Makes the pushed hashes durable. It can be called again after it has failed. */
    async save(): Promise<void> {
      const saving = pending
      if (saving.length === 0) return
      if (isTorn) await file.truncate(saved * hashBytes)
      isTorn = true
      await file.appendFile(Buffer.concat(saving))
      await file.datasync()
      isTorn = false
      saved += saving.length
      pending = pending.slice(saving.length)
    },
    close: () => file.close(),
  }
}
