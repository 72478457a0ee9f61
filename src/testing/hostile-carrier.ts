import { setImmediate as turn } from 'node:timers/promises'
import { retryError } from '../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch } from '../log/carrier.ts'

/** Batches that were sent and have not arrived; their sender may be dead by then. */
export class SlowLine {
  readonly #late: (() => Promise<unknown>)[] = []

  get length(): number {
    return this.#late.length
  }

  add(arrive: () => Promise<unknown>): void {
    this.#late.push(arrive)
  }

  async arrive(random: () => number): Promise<void> {
    const [one] = this.#late.splice(Math.floor(random() * this.#late.length), 1)
    await one?.().catch(() => {})
  }
}

/**
 * One process's way to a carrier, as bad as the contract of `Carrier` allows: answers that are lost and that
 * wait, appends that are lost, late, done twice, and done after all; reads that take long, and have only what
 * was there when they began. It can be stopped as a process is, and cut for good.
 */
export class HostileCarrier implements Carrier {
  readonly name: string
  readonly #inner: Carrier
  readonly #line: SlowLine
  readonly #random: () => number
  /** From 0, all is well, to 1. */
  readonly #hostility: number
  #running = Promise.resolve()
  #wake = () => {}
  #isDead = false

  constructor(inner: Carrier, line: SlowLine, random: () => number, hostility: number) {
    this.name = inner.name
    this.#inner = inner
    this.#line = line
    this.#random = random
    this.#hostility = hostility
  }

  get batchBytesMax(): number {
    return this.#inner.batchBytesMax
  }

  /** Nothing begins and nothing is answered until `wake`. */
  stop(): void {
    this.wake()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#running = promise
    this.#wake = resolve
  }

  wake(): void {
    this.#wake()
  }

  /** The process is dead: nothing more comes from it, but what it has sent may. */
  kill(): void {
    this.#isDead = true
    this.wake()
  }

  async facts(made?: Parameters<Carrier['facts']>[0]): ReturnType<Carrier['facts']> {
    return this.#inner.facts(made)
  }

  async append(partition: number, batch: CarrierBatch, expected: number): Promise<number | undefined> {
    await this.#pass()
    const sent = { ...batch, bytes: Buffer.from(batch.bytes) }
    const append = () => this.#inner.append(partition, sent, expected)
    const fate = this.#random() < this.#hostility ? Math.floor(this.#random() * 6) : 6
    if (fate === 0) throw unreachable('it is lost')
    if (fate === 1 || fate === 2) {
      this.#line.add(append)
      throw unreachable('it comes late')
    }
    if (fate === 3) this.#line.add(append)
    if (fate === 4) await append()
    const position = await append()
    if (fate === 5) throw unreachable('the answer is lost')
    await this.#pass()
    return position
  }

  async *read(partition: number, from: number): AsyncGenerator<CarriedBatch> {
    await this.#pass()
    const isShort = this.#random() < this.#hostility
    const end = isShort ? await this.#inner.end(partition) : Number.POSITIVE_INFINITY
    for await (const batch of this.#inner.read(partition, from)) {
      if (batch.position >= end) return
      if (this.#random() < 0.2) await this.#pass()
      yield batch
    }
  }

  async end(partition: number): Promise<number> {
    await this.#pass()
    return this.#inner.end(partition)
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#pass()
    await this.#inner.put(name, bytes)
  }

  async get(name: string): Promise<Buffer | undefined> {
    await this.#pass()
    return this.#inner.get(name)
  }

  async close(): Promise<void> {}

  /** Lets others run, and something late arrive. */
  async #pass(): Promise<void> {
    for (let turns = Math.floor(this.#random() * 4); turns > 0; turns--) await turn()
    if (this.#random() < 0.1) await this.#line.arrive(this.#random)
    await this.#running
    if (this.#isDead) throw unreachable('the process is dead')
  }
}

const unreachable = (why: string) => retryError('carrier-unreachable', `No answer: ${why}.`)
