import fs from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { accountCount, categoryCount, type Payment } from './payment.ts'

const open = promisify(fs.open)
const write = promisify(fs.write)
const fdatasync = promisify(fs.fdatasync)
const close = promisify(fs.close)

const fileBytes = 64 * 1024 * 1024
const batchBytesMax = 8 * 1024 * 1024

interface Waiting {
  readonly payment: Payment
  readonly bytes: Buffer
  readonly resolve: (payments: number) => void
}

/**
 * The floor: the least that a durable request costs in one process. It writes records with their lengths to
 * one file, as many at a time as have gathered during the fsync before; then it changes two numbers in memory
 * and resolves the promise. It validates nothing, detects no duplicates, and its file could not be recovered.
 */
export class BareLoop {
  readonly #file: number
  readonly #batch = Buffer.allocUnsafeSlow(batchBytesMax)
  readonly #accounts = new Float64Array(accountCount)
  readonly #categories = new Float64Array(accountCount * categoryCount)
  readonly #payments = new Float64Array(accountCount)
  #position = 0
  #queue: Waiting[] = []
  #running = false

  /** Allocates the blocks of the file first, so that no write has to. */
  static async open(directory: string): Promise<BareLoop> {
    const file = await open(join(directory, 'bare-loop'), 'w+')
    const zeros = Buffer.alloc(batchBytesMax)
    for (let at = 0; at < fileBytes; at += zeros.length) await write(file, zeros, 0, zeros.length, at)
    await fdatasync(file)
    return new BareLoop(file)
  }

  private constructor(file: number) {
    this.#file = file
  }

  submit(payment: Payment, bytes: Buffer): Promise<number> {
    return new Promise((resolve) => {
      this.#queue.push({ payment, bytes, resolve })
      if (!this.#running) void this.#run()
    })
  }

  close(): Promise<void> {
    return close(this.#file)
  }

  async #run(): Promise<void> {
    this.#running = true
    await undefined // Requests of the same turn go into the same batch.
    while (this.#queue.length > 0) {
      const taken = this.#queue
      this.#queue = []
      const batch = this.#batch
      let end = 0
      for (const { bytes } of taken) {
        end = batch.writeUInt32LE(bytes.length, end)
        batch.set(bytes, end)
        end += bytes.length
      }
      if (this.#position + end > fileBytes) this.#position = 0
      await write(this.#file, batch, 0, end, this.#position)
      await fdatasync(this.#file)
      this.#position += end
      for (const { payment, resolve } of taken) {
        const { account, category, input } = payment
        this.#accounts[account]! += input.cents
        this.#categories[account * categoryCount + category]! += input.cents
        resolve(++this.#payments[account]!)
      }
    }
    this.#running = false
  }
}
