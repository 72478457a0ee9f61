import { createHash, randomUUID } from 'node:crypto'
import { HenceError } from 'hence'
import type { Carrier } from '../../src/log/carrier.ts'
import type { DuelLog } from '../../src/testing/duel.ts'

/** The rules of a log over a carrier: the one that is right, and each weaker one that breaks. */
export type Rule =
  /** A batch counts if it is the first to name the head; an unsure process seals, until a seal counts. */
  | 'chain'
  /** A batch counts if no later epoch began before it, whatever it names. */
  | 'epochs'
  /** After an unsure append a process reads, without a seal. */
  | 'no seal'
  /** After an unsure append a process seals and reads, once. */
  | 'one look'
  /** A position is an acknowledgement, whichever it is. */
  | 'any position'

interface Batch {
  readonly before: string
  readonly nonce: string
  readonly epoch: number
  readonly time: number
  readonly records: readonly string[]
}

interface Live extends Batch {
  readonly offset: number
}

/** The least log over a carrier, in memory: for duels of rules, of which the real log has only the right one. */
export class SmallChain implements DuelLog {
  readonly #partitions: SmallPartition[]

  constructor(carrier: Carrier, partitions: number, rule: Rule, now: () => number) {
    this.#partitions = Array.from(
      { length: partitions },
      (_, each) => new SmallPartition(carrier, each, rule, now),
    )
  }

  append(partition: number, records: readonly Uint8Array[]): Promise<{ offset: number }> {
    return this.#partitions[partition]!.append(records.map((record) => Buffer.from(record).toString()))
  }

  async *read(partition: number): ReturnType<DuelLog['read']> {
    for (const { offset, time, records } of await this.#partitions[partition]!.decided()) {
      yield { offset, time, records: records.map((record) => Buffer.from(record)) }
    }
  }

  async catchUp(): Promise<void> {
    for (const partition of this.#partitions) await partition.catchUp()
  }

  async claim(): Promise<void> {
    for (const partition of this.#partitions) await partition.claim()
  }

  async close(): Promise<void> {}
}

class SmallPartition {
  readonly #carrier: Carrier
  readonly #partition: number
  readonly #rule: Rule
  readonly #now: () => number
  readonly #live: Live[] = []
  #head = ''
  #epoch = 0
  #offset = 0
  #next = 0
  /** Those of this process that may still count. */
  #nonces = new Set<string>()
  #nonce = ''
  #isOwner = false
  #isTaken = false
  #isUnsure = false
  /** One after another. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(carrier: Carrier, partition: number, rule: Rule, now: () => number) {
    this.#carrier = carrier
    this.#partition = partition
    this.#rule = rule
    this.#now = now
  }

  append(records: readonly string[]): Promise<{ offset: number }> {
    return this.#inTurn(async () => {
      if (!this.#isOwner) throw new HenceError('log-followed', 'retry', 'This process does not write.')
      if (this.#isUnsure) await this.#settle()
      const offset = this.#offset
      await this.#write(records)
      return { offset }
    })
  }

  decided(): Promise<readonly Live[]> {
    return this.#inTurn(async () => {
      if (this.#isOwner && this.#isUnsure) await this.#settle()
      return [...this.#live]
    })
  }

  catchUp(): Promise<void> {
    return this.#inTurn(() => this.#readOn())
  }

  claim(): Promise<void> {
    return this.#inTurn(async () => {
      this.#isOwner = true
      this.#isUnsure = true
      await this.#settle(true)
    })
  }

  /** Finds out what became of everything that was sent. */
  async #settle(isClaim = false): Promise<void> {
    if (this.#rule === 'no seal' && !isClaim) {
      await this.#readOn()
      this.#isUnsure = false
      return
    }
    for (;;) {
      await this.#readOn()
      this.#nonce = randomUUID()
      this.#nonces.add(this.#nonce)
      this.#epoch++
      try {
        await this.#write([])
        break
      } catch (error) {
        if (this.#rule === 'one look') {
          await this.#readOn()
          break
        }
        if ((error as HenceError).code !== 'log-write-unsure') throw error
        await this.#readOn()
        if (this.#live.at(-1)?.nonce === this.#nonce) break
      }
    }
    this.#isTaken = true
    this.#isUnsure = false
    this.#nonces = new Set([this.#nonce])
  }

  async #write(records: readonly string[]): Promise<void> {
    const time = Math.max(this.#live.at(-1)?.time ?? 0, this.#now())
    const batch: Batch = { before: this.#head, nonce: this.#nonce, epoch: this.#epoch, time, records }
    const bytes = Buffer.from(JSON.stringify(batch))
    const hash = hashOf(bytes)
    this.#isUnsure = true
    const carried = { bytes, before: bytesOf(this.#head), hash: bytesOf(hash), offset: this.#offset }
    const position = await this.#carrier.append(this.#partition, carried, this.#next)
    const isExpected = position === this.#next
    if (!isExpected && (position === undefined || this.#rule !== 'any position')) {
      throw new HenceError('log-write-unsure', 'retry', 'Another batch may have come first.')
    }
    this.#isUnsure = false
    this.#count(batch, hash, position!)
  }

  async #readOn(): Promise<void> {
    for await (const { position, bytes } of this.#carrier.read(this.#partition, this.#next)) {
      const batch: Batch = JSON.parse(bytes.toString())
      const counts =
        this.#rule === 'epochs'
          ? batch.epoch > (this.#live.at(-1)?.epoch ?? -1) || batch.nonce === this.#live.at(-1)?.nonce
          : batch.before === this.#head
      if (!counts) this.#next = position + 1
      else if (this.#isTaken && !this.#nonces.has(batch.nonce)) {
        throw new HenceError('log-taken', 'retry', 'Another process has taken the log.')
      } else this.#count(batch, hashOf(bytes), position)
    }
  }

  #count(batch: Batch, hash: string, position: number): void {
    this.#live.push({ ...batch, offset: this.#offset })
    this.#offset += batch.records.length
    this.#epoch = Math.max(this.#epoch, batch.epoch)
    this.#head = hash
    this.#next = position + 1
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => {})
    return result
  }
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const bytesOf = (hash: string) => Buffer.from(hash.padEnd(64, '0'), 'hex')
