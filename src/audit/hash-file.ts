import { readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { appendTo } from './append-file.ts'
import type { Hash } from './tree.ts'

const hashBytes = 32

export type HashFile = NonNullable<Awaited<ReturnType<typeof openHashFile>>>

/** A file of hashes was cut while it was open: the log has to derive them again. */
export class HashesLost extends Error {
  readonly path: string
  constructor(path: string) {
    super(`${path} has lost hashes.`)
    this.path = path
  }
}

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
  const saved = appendTo(file, length * hashBytes)
  /** Those that are not saved yet, one after the other: as objects they would live long enough to be copied. */
  let pending = withRoom(Buffer.alloc(0))
  let count = 0
  return {
    path,
    get length() {
      return saved.bytes / hashBytes + count
    },
    get unsaved() {
      return count
    },
    at(index: number): Hash {
      const at = index * hashBytes - saved.bytes
      if (at >= 0) return pending.subarray(at, at + hashBytes)
      const hash = Buffer.allocUnsafe(hashBytes)
      // A proof takes a few dozen of these, from pages that the system has in memory.
      if (readSync(file.fd, hash, 0, hashBytes, index * hashBytes) < hashBytes) throw new HashesLost(path)
      return hash
    },
    push(hash: Hash): void {
      if (count * hashBytes === pending.length) pending = withRoom(pending)
      pending.set(hash, count++ * hashBytes)
    },
    /**
     * Makes the pushed hashes durable. It can be called again after it has failed.
     * @throws HashesLost
     */
    async save(): Promise<void> {
      if (count === 0) return
      const saving = pending.subarray(0, count * hashBytes)
      // Behind a cut they would stand at the wrong places.
      if ((await file.stat()).size < saved.bytes) throw new HashesLost(path)
      await saved.append(saving)
      count -= saving.length / hashBytes
      // Somebody may still hold a hash of the old ones.
      pending = withRoom(pending.subarray(saving.length, saving.length + count * hashBytes))
    },
    close: () => file.close(),
  }
}

/** A copy of hashes in a buffer with room for as many more. */
function withRoom(hashes: Buffer): Buffer {
  const more = Buffer.allocUnsafeSlow(Math.max(16 * hashBytes, 2 * hashes.length))
  hashes.copy(more)
  return more
}
