import { randomUUID } from 'node:crypto'
import type { Connection } from '@platformatic/kafka'
import { type Clock, elapsed } from '../clock.ts'
import { changeError, type HenceError } from '../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../log/carrier.ts'
import { type Reporter, reporterOf } from '../report.ts'
import { type Fetched, type KafkaClient, type KafkaRecord, place, type TopicState } from './client.ts'
import { type KafkaConnection, kafkaClient } from './connection.ts'

export interface KafkaLogOptions extends KafkaConnection {
  /** The topic of the batches; code and the facts of the log are in another one, `<topic>-kept`. */
  readonly topic: string
  /** For development: takes fewer than 3 replicas, or `min.insync.replicas` below 2. Default false. */
  readonly oneBroker?: boolean
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
  return carrierOf(kafkaClient(options, 'A log in Kafka needs'), options)
}

/**
 * A partition of the log is a partition of the topic, and a batch is a record. Everything kept beside the log
 * stands in a compacted topic with one partition: the facts under a key of their own for each who tried to
 * make them, of which the first counts; the id of the topic of the log; and texts under their names.
 */
function carrierOf(client: KafkaClient, options: KafkaLogOptions): Carrier {
  const { topic, oneBroker = false } = options
  const { name } = client
  const report = reporterOf(options.report)
  const keptTopic = `${topic}-kept`
  const partitions: KafkaPartition[] = []
  const kept = new KafkaPartition(client, keptTopic, 0, true)
  /** The offset of the last record of each key in the topic beside the log, in the order of the first ones. */
  const index = new Map<string, number>()
  let indexed = 0
  let batchBytesMax = batchBytesMade

  async function facts(made?: CarrierFacts): Promise<CarrierFacts | undefined> {
    const rules: TopicRules = { cleanup: 'compact', partitions: 1, oneBroker }
    if (made !== undefined) await makeTopic(client, keptTopic, rules)
    else if ((await client.topic(keptTopic)) === undefined) return undefined
    await checkTopic(client, keptTopic, rules, report)
    let facts = await firstFacts()
    if (facts === undefined && made !== undefined) {
      await kept.append(`facts ${randomUUID()}`, Buffer.from(JSON.stringify(made)))
      facts = await firstFacts()
    }
    if (facts !== undefined) await useTopic(facts.partitions)
    return facts
  }

  async function append(partition: number, batch: CarrierBatch): Promise<number> {
    return partitionAt(partition).append(undefined, batch.bytes)
  }

  async function* read(partition: number, from: number): AsyncGenerator<CarriedBatch> {
    for await (const { offset, value } of partitionAt(partition).read(from)) {
      yield { position: offset, bytes: value }
    }
  }

  async function end(partition: number): Promise<number> {
    return partitionAt(partition).end()
  }

  async function ends(): Promise<readonly number[]> {
    return client.ends(topic, [...partitions.keys()])
  }

  async function put(name: string, bytes: Uint8Array): Promise<void> {
    await kept.append(`name ${name}`, Buffer.from(bytes))
  }

  function get(name: string): Promise<Buffer | undefined> {
    return lastOf(`name ${name}`)
  }

  function close(): Promise<void> {
    return client.close()
  }

  /** Makes the topic of the log, once in its life, and checks it. */
  async function useTopic(count: number): Promise<void> {
    const rules: TopicRules = { cleanup: 'delete', partitions: count, oneBroker }
    const known = (await lastOf('topic'))?.toString()
    const state = await (known === undefined ? makeTopic(client, topic, rules) : client.knownTopic(topic))
    if (known !== undefined && state?.id !== known) {
      throw client.unusable(
        `Topic "${topic}" was removed${state === undefined ? '' : ' and made again'}: it had the id ${known}. Restore it, ` +
          `or remove "${keptTopic}" as well if nothing of the log is needed any more.`,
      )
    }
    if (known === undefined) await kept.append('topic', Buffer.from(state!.id))
    batchBytesMax = await checkTopic(client, topic, rules, report)
    for (let each = partitions.length; each < count; each++) {
      partitions.push(new KafkaPartition(client, topic, each))
    }
  }

  async function firstFacts(): Promise<CarrierFacts | undefined> {
    await readIndex()
    const first = [...index.keys()].find((key) => key.startsWith('facts '))
    if (first === undefined) return undefined
    return JSON.parse((await lastOf(first))!.toString())
  }

  async function readIndex(): Promise<void> {
    for await (const { key, offset } of kept.read(indexed)) {
      indexed = offset + 1
      if (key !== undefined) index.set(key, offset)
    }
  }

  async function lastOf(key: string): Promise<Buffer | undefined> {
    for (;;) {
      await readIndex()
      const offset = index.get(key)
      if (offset === undefined) return undefined
      const { records } = await client.fetch(keptTopic, 0, offset)
      if (records[0]?.offset === offset) return records[0].value
      // It has a successor that was not there a moment ago, and was removed.
    }
  }

  function partitionAt(partition: number): KafkaPartition {
    const found = partitions[partition]
    if (found !== undefined) return found
    throw changeError(
      'partition-unknown',
      `${name} has ${partitions.length} partitions; ${partition} is none of them.`,
    )
  }

  return {
    name,
    get batchBytesMax() {
      return batchBytesMax
    },
    ...{ facts, append, read, end, ends, put, get, close },
  }
}

/**
 * A partition of a topic, and the last record that was appended or read here. That one must never go: after
 * an election of a replica that lacks it, or a loss of power, the partition would continue at offsets that
 * other records had before. So it is looked for over every new connection.
 */
class KafkaPartition {
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
    const connection = await this.#client.connection('producing', this.#topic, this.#partition)
    await this.#check(connection)
    const record = await this.#client.produce(connection, this.#topic, this.#partition, key, value)
    if (this.#last !== undefined && record.offset <= this.#last.offset) throw this.#lost(record.offset)
    this.#last = record
    return record.offset
  }

  /** Reads from an offset up to the end, and at least up to the last record that is known here. */
  async *read(from: number): AsyncGenerator<KafkaRecord> {
    const connection = await this.#client.connection('fetching', this.#topic, this.#partition)
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

  /**
   * Fetches where a record was. A leader that was just elected may show less than it has, for as long as too
   * few replicas are in sync, and refuses to name its end meanwhile. One that names it has no more.
   */
  async #fetchKnown(offset: number): Promise<Fetched> {
    const start = elapsed(this.#client.clock)
    for (;;) {
      const fetched = await this.#fetch(offset)
      if (fetched.next > offset) return fetched
      await this.#client.refresh()
      const [end] = (await this.#client.ends(this.#topic, [this.#partition])) as [number]
      if (end <= offset && elapsed(this.#client.clock) - start > this.#client.timeoutMs) throw this.#lost(end)
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

/** How a topic is made, and what it must be. */
interface TopicRules {
  readonly cleanup: 'delete' | 'compact'
  readonly partitions: number
  /** One broker is enough: an acknowledged record then goes with its disk. */
  readonly oneBroker: boolean
}

const replicasMin = 3
const inSyncMin = 2

/** Topics are made with it, and must have it: the largest record of a log in a batch, with its headers. */
const messageBytes = 17 * 1024 * 1024

/** The most that Kafka adds to a value. */
const overheadBytes = 1024

/** The largest value that a topic made here takes, in bytes. */
const batchBytesMade = messageBytes - overheadBytes

async function makeTopic(client: KafkaClient, topic: string, rules: TopicRules): Promise<TopicState> {
  const settings = {
    ...must(rules),
    'min.insync.replicas': String(rules.oneBroker ? 1 : inSyncMin),
    'max.message.bytes': String(messageBytes),
    // A process with a wrong clock may write, and who looks at the topic finds the time of the broker.
    'message.timestamp.type': 'LogAppendTime',
    // The active process writes there twice a second, and who opens the log reads all of it.
    ...(rules.cleanup === 'compact' && { 'segment.ms': '600000', 'min.cleanable.dirty.ratio': '0.1' }),
  }
  const configs = Object.entries(settings).map(([name, value]) => ({ name, value }))
  const replicas = rules.oneBroker ? 1 : replicasMin
  return client.repeated(`topic "${topic}"`, async () => {
    const found = await client.topic(topic)
    if (found !== undefined) return found
    await (await client.open()).admin.createTopics({
      topics: [{ topic, partitions: rules.partitions, replicas }],
      configs,
    })
    throw new Error('It was made just now.')
  })
}

/**
 * Checks that a topic keeps what it has taken.
 * @returns the largest value that it takes, in bytes
 */
async function checkTopic(
  client: KafkaClient,
  topic: string,
  rules: TopicRules,
  report: Reporter,
): Promise<number> {
  const state = (await client.topic(topic))!
  const described = await client.repeated(`the settings of topic "${topic}"`, async () =>
    (await client.open()).admin.describeConfigs({ resources: [{ resourceType: 2, resourceName: topic }] }),
  )
  const settings = new Map(described[0]!.configs.map(({ name, value }) => [name, value]))
  const wrong = Object.entries(must(rules))
    .filter(([name, value]) => settings.get(name) !== value)
    .map(([name, value]) => `${name}=${value} (it is ${settings.get(name)})`)
  const messageBytesMax = Number(settings.get('max.message.bytes'))
  // An event or a correction that did not fit could never be written, and would stop each start.
  if (messageBytesMax < messageBytes)
    wrong.push(`max.message.bytes=${messageBytes} or more (it is ${messageBytesMax})`)
  const weak = [
    ...(state.replicas < replicasMin ? [`${replicasMin} replicas (there are ${state.replicas})`] : []),
    ...(Number(settings.get('min.insync.replicas')) < inSyncMin
      ? [`min.insync.replicas=${inSyncMin} (it is ${settings.get('min.insync.replicas')})`]
      : []),
  ]
  if (state.partitions !== rules.partitions)
    wrong.push(`${rules.partitions} partitions (${state.partitions})`)
  if (!rules.oneBroker) wrong.push(...weak.splice(0))
  if (wrong.length > 0) {
    throw client.unusable(`Topic "${topic}" would not keep a log. It must have ${wrong.join(', ')}.`)
  }
  if (weak.length > 0) {
    const message = `${client.name}: for development only, since a disk that fails takes the log with it: topic "${topic}" lacks ${weak.join(', ')}.`
    report({ level: 'warning', code: 'log-not-replicated', message })
  }
  return messageBytesMax - overheadBytes
}

function must({ cleanup }: TopicRules): Readonly<Record<string, string>> {
  const safe = { 'cleanup.policy': cleanup, 'unclean.leader.election.enable': 'false' }
  return cleanup === 'compact' ? safe : { ...safe, 'retention.ms': '-1', 'retention.bytes': '-1' }
}
