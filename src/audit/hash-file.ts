import { readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Hash, HashList } from './tree.ts'

const hashBytes = 32

/**
 * Hashes in a file, one behind the other, 32 bytes each. What is pushed stays in memory until it is saved. The file can
 * be made again from the log, so nothing in it says whether it is whole: its tree's root against a signed head does.
 */
export class HashFile implements HashList {
  readonly #file: FileHandle
  /** How many stand in the file. */
  #saved: number
  #pending: Hash[] = []

  /** Opens a file, or makes it; what stands behind the first `length` hashes is cut off, and is undefined with fewer. */
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
    // A proof takes a few dozen of these, out of pages that the system has in memory.
    if (readSync(this.#file.fd, hash, 0, hashBytes, index * hashBytes) < hashBytes) {
      throw new Error(`The file of hashes ends before hash ${index}.`)
    }
    return hash
  }

  push(hash: Hash): void {
    this.#pending.push(hash)
  }

  /** Makes what was pushed durable. */
  async save(): Promise<void> {
    const pending = this.#pending
    if (pending.length === 0) return
    await this.#file.appendFile(Buffer.concat(pending))
    await this.#file.datasync()
    this.#saved += pending.length
    this.#pending = this.#pending.slice(pending.length)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
