import { readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Hash, HashList } from './tree.ts'

const hashBytes = 32

/**
 * Hashes in a file, one after the other, 32 bytes each. A pushed hash stays in memory until `save`. The file
 * can be derived again from the log, so it has no checksum: comparing the root of its tree with a signed head
 * shows whether it is whole.
 */
export class HashFile implements HashList {
  readonly #file: FileHandle
  #saved: number
  #pending: Hash[] = []
  /** Whether a write has failed, so that part of it may be in the file. */
  #isTorn = false

  /** Opens or makes a file and truncates it to its first `length` hashes; undefined if it holds fewer. */
  static async open(path: string, length: number): Promise<HashFile | undefined> {
    const file = await open(path, 'a+', 0o600)
    const { size } = await file.stat()
    if (size < length * hashBytes) {
      await file.close()
      return undefined
    }
    await file.truncate(length * hashBytes)
    return new HashFile(file, length)
  }

  private constructor(file: FileHandle, length: number) {
    this.#file = file
    this.#saved = length
  }

  get length(): number {
    return this.#saved + this.#pending.length
  }

  get unsaved(): number {
    return this.#pending.length
  }

  at(index: number): Hash {
    if (index >= this.#saved) return this.#pending[index - this.#saved]!
    const hash = Buffer.allocUnsafe(hashBytes)
    // A proof takes a few dozen of these, from pages that the system has in memory.
    if (readSync(this.#file.fd, hash, 0, hashBytes, index * hashBytes) < hashBytes) {
      throw new Error(`The file of hashes ends before hash ${index}.`)
    }
    return hash
  }

  push(hash: Hash): void {
    this.#pending.push(hash)
  }

  /** Makes the pushed hashes durable. It can be called again after it has failed. */
  async save(): Promise<void> {
    const pending = this.#pending
    if (pending.length === 0) return
    if (this.#isTorn) await this.#file.truncate(this.#saved * hashBytes)
    this.#isTorn = true
    await this.#file.appendFile(Buffer.concat(pending))
    await this.#file.datasync()
    this.#isTorn = false
    this.#saved += pending.length
    this.#pending = this.#pending.slice(pending.length)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
