import { assert } from '../../assert.ts'
import type { Appended } from '../log.ts'
import { batchBytes, headerBytes, writeRecord } from './batch.ts'

/** An append that waits for its group commit. */
export interface WaitingAppend {
  readonly records: readonly Uint8Array[]
  readonly bytes: number
  readonly resolve: (appended: Appended) => void
  readonly reject: (error: Error) => void
}

/** The bytes of records in one group commit at most, if it holds more than one append. */
const commitBytesMax = 8 * 1024 * 1024

/** The appends to a partition that wait for the one under way. */
export class AppendQueue {
  readonly #waiting: WaitingAppend[] = []

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /** @param bytes of the records together */
  add(records: readonly Uint8Array[], bytes: number): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ records, bytes, resolve, reject })
    })
  }

  take(batchBytesMax = commitBytesMax): readonly WaitingAppend[] {
    const max = Math.min(commitBytesMax, batchBytesMax)
    let count = 0
    for (let bytes = headerBytes; count < this.#waiting.length; count++) {
      const { records, bytes: more } = this.#waiting[count]!
      bytes += batchBytes(records.length, more) - headerBytes
      if (count > 0 && bytes > max) break
    }
    return this.#waiting.splice(0, count)
  }

  reject(error: Error): void {
    for (const append of this.#waiting.splice(0)) append.reject(error)
  }
}

/** The memory of the batches of a partition, one after the other. */
export class BatchBuffer {
  #buffer = Buffer.alloc(0)
  readonly #isReused: boolean

  /** @param isReused false: a batch stays as it is, since a carrier may hold one whose append has failed */
  constructor(isReused: boolean) {
    this.#isReused = isReused
  }

  /** Returns the batch of some appends without its header. */
  batchOf(appends: readonly WaitingAppend[]): { readonly bytes: Buffer; readonly count: number } {
    let [count, recordBytes] = [0, 0]
    for (const { records, bytes } of appends) {
      count += records.length
      recordBytes += bytes
    }
    const total = batchBytes(count, recordBytes)
    if (!this.#isReused) this.#buffer = Buffer.allocUnsafeSlow(total)
    else if (this.#buffer.length < total)
      this.#buffer = Buffer.allocUnsafeSlow(Math.max(total, 64 * 1024, this.#buffer.length * 2))
    let at = headerBytes
    for (const { records } of appends)
      for (const record of records) at = writeRecord(this.#buffer, at, record)
    assert(at === total, 'a batch is as long as its records', at, total)
    return { bytes: this.#buffer.subarray(0, total), count }
  }
}
