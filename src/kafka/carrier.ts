import { randomUUID } from 'node:crypto'
import type { ConnectionOptions } from 'node:tls'
import type { SASLOptions } from '@platformatic/kafka'
import type { Clock } from '../clock.ts'
import { changeError } from '../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../log/carrier.ts'
import { requirePackage } from '../optional-package.ts'
import { type Reporter, reporterOf } from '../report.ts'
import { KafkaClient } from './client.ts'
import { KafkaPartition } from './partition.ts'
import { batchBytesMade, checkTopic, makeTopic, type TopicRules } from './topics.ts'

export interface KafkaLogOptions {
  /** Some of the brokers, as `host:port`. */
  readonly brokers: readonly string[]
  /** The topic of the batches; code and the facts of the log are in another one, `<topic>-kept`. */
  readonly topic: string
  readonly tls?: ConnectionOptions
  readonly sasl?: SASLOptions
  /**
   * For development: takes topics with fewer than 3 replicas, or `min.insync.replicas` below 2, with a
   * warning. Default false.
   */
  readonly oneBroker?: boolean
  /** How long a broker may take to answer, and how long what may be repeated is repeated. Default 10 s. */
  readonly timeoutMs?: number
  readonly clock?: Clock
  readonly report?: Reporter
}

/**
 * A log in a topic of Kafka, for `createEngine({ log })`. Each batch is one record, and appended once all
 * replicas in sync have it; there are no transactions and no consumer groups. It needs the npm package
 * `@platformatic/kafka`, which you install. It connects when it is used.
 * @throws HenceError `package-missing` (change)
 */
export function kafkaLog(options: KafkaLogOptions): Carrier {
  requirePackage('@platformatic/kafka', 'A log in Kafka needs')
  const { brokers, topic, tls, sasl } = options
  const connecting = { bootstrapBrokers: [...brokers], ...(tls && { tls }), ...(sasl && { sasl }) }
  const name = `kafka://${brokers.join(',')}/${topic}`
  return new KafkaCarrier(new KafkaClient(name, { clientId: 'hence', ...connecting }, options), options)
}

/**
 * A partition of the log is a partition of the topic, and a batch is a record. Everything kept beside the log
 * stands in a compacted topic with one partition: the facts under a key of their own for each who tried to
 * make them, of which the first counts; the id of the topic of the log; and texts under their names.
 */
class KafkaCarrier implements Carrier {
  readonly name: string
  #batchBytesMax = batchBytesMade
  readonly #client: KafkaClient
  readonly #topic: string
  readonly #keptTopic: string
  readonly #oneBroker: boolean
  readonly #report: Reporter
  readonly #partitions: KafkaPartition[] = []
  readonly #kept: KafkaPartition
  /** The offset of the last record of each key in the topic beside the log, in the order of the first ones. */
  readonly #index = new Map<string, number>()
  #indexed = 0

  constructor(client: KafkaClient, { topic, oneBroker = false, report }: KafkaLogOptions) {
    this.name = client.name
    this.#client = client
    this.#topic = topic
    this.#keptTopic = `${topic}-kept`
    this.#oneBroker = oneBroker
    this.#report = reporterOf(report)
    this.#kept = new KafkaPartition(client, this.#keptTopic, 0, true)
  }

  get batchBytesMax(): number {
    return this.#batchBytesMax
  }

  async facts(made?: CarrierFacts): Promise<CarrierFacts | undefined> {
    const rules: TopicRules = { cleanup: 'compact', partitions: 1, oneBroker: this.#oneBroker }
    if (made !== undefined) await makeTopic(this.#client, this.#keptTopic, rules)
    else if ((await this.#client.topic(this.#keptTopic)) === undefined) return undefined
    await checkTopic(this.#client, this.#keptTopic, rules, this.#report)
    let facts = await this.#firstFacts()
    if (facts === undefined && made !== undefined) {
      await this.#kept.append(`facts ${randomUUID()}`, Buffer.from(JSON.stringify(made)))
      facts = await this.#firstFacts()
    }
    if (facts !== undefined) await this.#useTopic(facts.partitions)
    return facts
  }

  async append(partition: number, batch: CarrierBatch): Promise<number> {
    return this.#partition(partition).append(undefined, batch.bytes)
  }

  async *read(partition: number, from: number): AsyncGenerator<CarriedBatch> {
    for await (const { offset, value } of this.#partition(partition).read(from)) {
      yield { position: offset, bytes: value }
    }
  }

  async end(partition: number): Promise<number> {
    return this.#partition(partition).end()
  }

  async ends(): Promise<readonly number[]> {
    return this.#client.ends(this.#topic, [...this.#partitions.keys()])
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#kept.append(`name ${name}`, Buffer.from(bytes))
  }

  get(name: string): Promise<Buffer | undefined> {
    return this.#valueOf(`name ${name}`)
  }

  close(): Promise<void> {
    return this.#client.close()
  }

  /** Makes the topic of the log, once in its life, and checks it. */
  async #useTopic(partitions: number): Promise<void> {
    const rules: TopicRules = { cleanup: 'delete', partitions, oneBroker: this.#oneBroker }
    const known = (await this.#valueOf('topic'))?.toString()
    const state = await (known === undefined
      ? makeTopic(this.#client, this.#topic, rules)
      : this.#client.knownTopic(this.#topic))
    if (known !== undefined && state?.id !== known) {
      throw this.#client.unusable(
        `Topic "${this.#topic}" was removed${state === undefined ? '' : ' and made again'}: it had the id ${known}. Restore it, ` +
          `or remove "${this.#keptTopic}" as well if nothing of the log is needed any more.`,
      )
    }
    if (known === undefined) await this.#kept.append('topic', Buffer.from(state!.id))
    this.#batchBytesMax = await checkTopic(this.#client, this.#topic, rules, this.#report)
    for (let each = this.#partitions.length; each < partitions; each++) {
      this.#partitions.push(new KafkaPartition(this.#client, this.#topic, each))
    }
  }

  async #firstFacts(): Promise<CarrierFacts | undefined> {
    await this.#readIndex()
    const first = [...this.#index.keys()].find((key) => key.startsWith('facts '))
    if (first === undefined) return undefined
    return JSON.parse((await this.#valueOf(first))!.toString())
  }

  async #readIndex(): Promise<void> {
    for await (const { key, offset } of this.#kept.read(this.#indexed)) {
      this.#indexed = offset + 1
      if (key !== undefined) this.#index.set(key, offset)
    }
  }

  async #valueOf(key: string): Promise<Buffer | undefined> {
    for (;;) {
      await this.#readIndex()
      const offset = this.#index.get(key)
      if (offset === undefined) return undefined
      const { records } = await this.#client.fetch(this.#keptTopic, 0, offset)
      if (records[0]?.offset === offset) return records[0].value
      // It has a successor that was not there a moment ago, and was removed.
    }
  }

  #partition(partition: number): KafkaPartition {
    const found = this.#partitions[partition]
    if (found !== undefined) return found
    throw changeError(
      'partition-unknown',
      `${this.name} has ${this.#partitions.length} partitions; ${partition} is none of them.`,
    )
  }
}
