import type { Connection } from '@platformatic/kafka'
import { elapsed } from '../clock.ts'
import type { HenceError } from '../failure.ts'
import { type Fetched, type KafkaClient, type KafkaRecord, place } from './client.ts'

/**
 * A partition of a topic, and the last record that was appended or read here. That one must never go: after
 * an election of a replica that lacks it, or a loss of power, the partition would continue at offsets that
 * other records had before. So it is looked for over every new connection.
 */
export class KafkaPartition {
  readonly #client: KafkaClient
  readonly #topic: string
  readonly #partition: number
  /** Whether the brokers may remove a record that has a successor with the same key. */
  readonly #compacted: boolean
  #last: Pick<KafkaRecord, 'offset' | 'checksum'> | undefined
  /** The end is there or later. */
  #end = 0
  /** The connections that were read from. */
  readonly #used = new WeakSet<Connection>()
  /** The connections over which the last record was found. */
  readonly #trusted = new WeakSet<Connection>()

  constructor(client: KafkaClient, topic: string, partition: number, compacted = false) {
    this.#client = client
    this.#topic = topic
    this.#partition = partition
    this.#compacted = compacted
  }

  /** Appends a record, once. After an error its fate is unknown, unless the error is `carrier-unusable`. */
  async append(key: string | undefined, value: Buffer): Promise<number> {
    const connection = await this.#client.producing(this.#topic, this.#partition)
    await this.#check(connection)
    const record = await this.#client.produce(connection, this.#topic, this.#partition, key, value)
    if (this.#last !== undefined && record.offset <= this.#last.offset) throw this.#lost(record.offset)
    this.#last = record
    return record.offset
  }

  /** Reads from an offset up to the end, and at least up to the last record that is known here. */
  async *read(from: number): AsyncGenerator<KafkaRecord> {
    const connection = await this.#client.fetching(this.#topic, this.#partition)
    await this.#check(connection)
    // A new leader may show less than it has; this call waits until it knows its end.
    if (!this.#used.has(connection)) this.#end = Math.max(this.#end, await this.end())
    this.#used.add(connection)
    for (let next = from; ; ) {
      const isKnown = next < this.#end || (this.#last !== undefined && next <= this.#last.offset)
      const fetched = await (isKnown ? this.#fetchKnown(next) : this.#fetch(next))
      for (const record of fetched.records) {
        if (this.#last === undefined || record.offset > this.#last.offset) this.#last = record
        yield record
      }
      if (fetched.next === next) return
      next = fetched.next
    }
  }

  async end(): Promise<number> {
    const [end] = (await this.#client.ends(this.#topic, [this.#partition])) as [number]
    return Math.max(end, this.#last === undefined ? 0 : this.#last.offset + 1)
  }

  #fetch(from: number): Promise<Fetched> {
    return this.#client.fetch(this.#topic, this.#partition, from)
  }

  /** Fetches where a record was. A new leader does not know at once that all replicas have it. */
  async #fetchKnown(offset: number): Promise<Fetched> {
    const start = elapsed(this.#client.clock)
    for (;;) {
      const fetched = await this.#fetch(offset)
      if (fetched.next > offset) return fetched
      if (elapsed(this.#client.clock) - start > this.#client.timeoutMs) throw this.#lost(fetched.end)
      await this.#client.pause(50)
    }
  }

  async #check(connection: Connection): Promise<void> {
    const last = this.#last
    if (last === undefined || this.#compacted || this.#trusted.has(connection)) return
    const { records, end } = await this.#fetchKnown(last.offset)
    if (records[0]?.offset !== last.offset || records[0].checksum !== last.checksum) throw this.#lost(end)
    this.#trusted.add(connection)
  }

  #lost(end: number): HenceError {
    const offset = this.#last?.offset ?? this.#end - 1
    const where = place(this.#topic, this.#partition)
    return this.#client.lost(`${where} had a record at offset ${offset}, and goes on at ${end} without it.`)
  }
}
