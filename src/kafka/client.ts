import { crc32 } from 'node:zlib'
import type { Admin, BaseOptions, Connection, ConnectionPool } from '@platformatic/kafka'
import { type Clock, elapsed, pause, systemClock } from '../clock.ts'
import { HenceError, operatorError, retryError } from '../failure.ts'
import { reasonOf, refusals } from './refusals.ts'

/** The library and its connections: loaded and made when they are used first. */
interface OpenClients {
  readonly library: typeof import('@platformatic/kafka')
  readonly admin: Admin
  readonly producing: ConnectionPool
  readonly fetching: ConnectionPool
}

type Role = 'producing' | 'fetching'

/** A read takes about so many bytes at a time, and always a whole record. */
const fetchBytes = 4 * 1024 * 1024
/** The same of records of others, which are few thousands then. */
const foreignBytes = 512 * 1024

/** The name of the header that says that a record is ours, and holds the CRC-32 of its value. */
const checksumHeader = Buffer.from('hence')

export interface KafkaRecord {
  readonly offset: number
  readonly key: string | undefined
  readonly value: Buffer
  /** CRC-32 of the value. */
  readonly checksum: number
}

export interface Fetched {
  /** Those of ours, checked; others are left out. */
  readonly records: readonly KafkaRecord[]
  /** The offset to continue at. */
  readonly next: number
  /** The offset after the last record that all replicas in sync have. */
  readonly end: number
}

/** A record of anybody. */
export interface ForeignRecord {
  readonly offset: number
  readonly key: Buffer | undefined
  /** Undefined: a tombstone. */
  readonly value: Buffer | undefined
  readonly headers: ReadonlyMap<string, Buffer>
  /** In milliseconds since 1970, as its producer or the broker has set it. */
  readonly time: number
}

export interface TopicState {
  readonly id: string
  readonly partitions: number
  /** The smallest number of replicas of a partition. */
  readonly replicas: number
}

/**
 * Produces to and fetches from the leaders of partitions, without a group, a transaction or a retry that its
 * caller does not know of. Each role has connections of its own: a broker answers the requests of a
 * connection one after another, so a read would wait for an append that waits for replicas.
 */
export class KafkaClient {
  readonly name: string
  readonly clock: Clock
  /** How long a broker may take to answer, and how long what may be repeated is repeated. */
  readonly timeoutMs: number
  readonly #connecting: BaseOptions
  #opened: Promise<OpenClients> | undefined
  #closed = new AbortController()
  /** The latest leader epoch of each partition that a broker has named. */
  readonly #epochs = new Map<string, number>()

  constructor(
    name: string,
    connecting: BaseOptions,
    { clock = systemClock, timeoutMs = 10_000 }: { readonly clock?: Clock; readonly timeoutMs?: number },
  ) {
    this.name = name
    this.clock = clock
    this.timeoutMs = timeoutMs
    // The broker gives up first, so that its answer says why.
    const patience = { timeout: timeoutMs * 0.8, requestTimeout: timeoutMs, connectTimeout: timeoutMs }
    this.#connecting = { ...connecting, ...patience, retries: 0 }
  }

  topic(topic: string): Promise<TopicState | undefined> {
    return this.repeated(`topic "${topic}"`, async () => {
      const found = (await this.#metadata(topic, true))?.topics.get(topic)
      if (found === undefined) return undefined
      const replicas = Math.min(...found.partitions.map((partition) => partition.replicas.length))
      return { id: found.id, partitions: found.partitionsCount, replicas }
    })
  }

  /** Returns the state of a topic that was there; a broker that has just started may not know it yet. */
  async knownTopic(topic: string): Promise<TopicState | undefined> {
    const start = elapsed(this.clock)
    for (;;) {
      const state = await this.topic(topic)
      if (state !== undefined || elapsed(this.clock) - start > this.timeoutMs) return state
      await this.pause(200)
    }
  }

  /** Returns the id and the partitions of a topic of others, which must exist. */
  async existing(topic: string): Promise<{ readonly id: string; readonly partitions: number[] }> {
    const state = await this.knownTopic(topic)
    if (state === undefined) throw this.unusable(`There is no topic "${topic}".`)
    return { id: state.id, partitions: Array.from({ length: state.partitions }, (_, i) => i) }
  }

  /** The connection to the present leader of a partition. */
  connection(role: Role, topic: string, partition: number): Promise<Connection> {
    return this.repeated(place(topic, partition), async () => {
      return (await this.#leader(role, topic, partition)).connection
    })
  }

  /** Appends a record, once; after an error its fate is unknown unless the error is `carrier-unusable`. */
  async produce(
    connection: Connection,
    topic: string,
    partition: number,
    key: string | undefined,
    value: Buffer,
  ): Promise<KafkaRecord> {
    const checksum = crc32(value)
    const written = Buffer.alloc(4)
    written.writeUInt32BE(checksum)
    const message = {
      ...{ topic, partition, value, headers: new Map([[checksumHeader, written]]) },
      ...(key !== undefined && { key: Buffer.from(key) }),
      // A broker refuses a time that is far from its own, and nothing here uses it.
      timestamp: 0n,
    }
    const offset = await this.#append(connection, topic, partition, [message])
    return { offset, key, value, checksum }
  }

  /** Appends records for anybody, in their order; after an error the fate of each is unknown. */
  async produceForeign(
    topic: string,
    partition: number,
    records: readonly Pick<ForeignRecord, 'key' | 'value' | 'headers'>[],
  ): Promise<void> {
    const connection = await this.connection('producing', topic, partition)
    const messages = records.map(({ key, value, headers }) => ({
      ...{ topic, partition, key, value: value ?? null },
      headers: new Map([...headers].map(([name, text]) => [Buffer.from(name), text])),
    }))
    await this.#append(connection, topic, partition, messages)
  }

  async #append(
    connection: Connection,
    topic: string,
    partition: number,
    messages: readonly object[],
  ): Promise<number> {
    try {
      // -1: all replicas in sync have it.
      const sent = await (await this.open()).library.produceV9.api.async(
        connection,
        -1,
        this.timeoutMs * 0.8,
        messages as never,
      )
      if (typeof sent === 'boolean') throw new Error('The broker gave no position.')
      return Number(sent.responses[0]!.partitionResponses[0]!.baseOffset)
    } catch (error) {
      await this.refresh()
      throw this.#failure(place(topic, partition), error)
    }
  }

  /** Reads records from an offset on; nothing yet if that is the end. */
  async fetch(topic: string, partition: number, from: number): Promise<Fetched> {
    const read = await this.repeated(place(topic, partition), () => this.#fetch(topic, partition, from))
    if (read.damaged === undefined) return read
    // The damage may be on the way, so one more look.
    const again = await this.repeated(place(topic, partition), () => this.#fetch(topic, partition, from))
    if (again.damaged === undefined) return again
    throw operatorError(
      'carrier-damaged',
      `${this.name}: the record at offset ${again.damaged} of ${place(topic, partition)} is damaged: its ` +
        'checksum differs. Another replica may have it whole: make that one the leader.',
    )
  }

  /** Reads the records of anybody, those of aborted transactions left out. */
  fetchForeign(
    topic: string,
    partition: number,
    from: number,
  ): Promise<{ readonly records: readonly ForeignRecord[]; readonly next: number }> {
    return this.repeated(place(topic, partition), async () => {
      const committed = 1
      const found = await this.#fetchBatches(topic, partition, from, committed, foreignBytes)
      const aborted = (found.abortedTransactions ?? []).toSorted((a, b) =>
        Number(a.firstOffset - b.firstOffset),
      )
      /** The producers whose aborted transactions are open here. */
      const open = new Set<bigint>()
      const { IS_TRANSACTIONAL, IS_CONTROL } = (await this.open()).library
      const records: ForeignRecord[] = []
      let next = from
      for (const batch of found.records ?? []) {
        const { firstOffset, lastOffsetDelta, attributes, producerId, firstTimestamp } = batch
        next = Math.max(next, Number(firstOffset) + lastOffsetDelta + 1)
        while (aborted[0] !== undefined && aborted[0].firstOffset < next)
          open.add(aborted.shift()!.producerId)
        // A mark ends the transaction of its producer.
        if (attributes & IS_CONTROL) open.delete(producerId)
        if (attributes & IS_CONTROL || (attributes & IS_TRANSACTIONAL && open.has(producerId))) continue
        for (const { offsetDelta, timestampDelta, key, value, headers } of batch.records) {
          const offset = Number(firstOffset) + offsetDelta
          if (offset < from) continue
          records.push({
            offset,
            key: key ?? undefined,
            value: value ?? undefined,
            headers: new Map(headers.map(([name, text]) => [`${name}`, text ?? Buffer.alloc(0)])),
            time: Number(firstTimestamp + timestampDelta),
          })
        }
      }
      return { records, next }
    })
  }

  /** Returns the offsets of the first records that there are. */
  starts(topic: string, partitions: readonly number[]): Promise<number[]> {
    return this.#offsets(topic, partitions, -2n)
  }

  /** Returns the offsets after the last records that all replicas in sync have. */
  ends(topic: string, partitions: readonly number[]): Promise<number[]> {
    return this.#offsets(topic, partitions, -1n)
  }

  /** Calls each broker once. */
  #offsets(topic: string, partitions: readonly number[], timestamp: bigint): Promise<number[]> {
    return this.repeated(`topic "${topic}"`, async () => {
      const asked = new Map<Connection, object[]>()
      for (const partitionIndex of partitions) {
        const { connection, leaderEpoch } = await this.#leader('fetching', topic, partitionIndex)
        const one = { partitionIndex, currentLeaderEpoch: leaderEpoch, timestamp }
        asked.set(connection, [...(asked.get(connection) ?? []), one])
      }
      const { listOffsetsV7 } = (await this.open()).library
      const answers = await Promise.all(
        [...asked].map(([connection, partitions]) =>
          listOffsetsV7.api.async(connection, -1, 0, [{ name: topic, partitions: partitions as never }]),
        ),
      )
      const found = answers.flatMap(({ topics }) => topics[0]!.partitions)
      return partitions.map((partition) =>
        Number(found.find(({ partitionIndex }) => partitionIndex === partition)!.offset),
      )
    })
  }

  /** Repeats what may be repeated, with pauses, until it succeeds or the patience ends. */
  async repeated<T>(what: string, run: () => Promise<T>): Promise<T> {
    const start = elapsed(this.clock)
    const { signal } = this.#closed
    for (let wait = 20; ; wait = Math.min(wait * 2, 500)) {
      try {
        return await run()
      } catch (error) {
        const failure = this.#failure(what, error)
        if (failure.code !== 'carrier-unreachable' || signal.aborted) throw failure
        if (elapsed(this.clock) - start > this.timeoutMs) throw failure
        await this.refresh()
        await this.pause(wait)
      }
    }
  }

  /** The brokers are asked again who leads. */
  async refresh(): Promise<void> {
    ;(await this.open()).admin.clearMetadata()
  }

  pause(ms: number): Promise<void> {
    return pause(this.clock, ms, this.#closed.signal)
  }

  unusable(message: string, cause?: unknown): HenceError {
    return operatorError('carrier-unusable', `${this.name}: ${message}`, { cause })
  }

  lost(message: string, cause?: unknown): HenceError {
    return operatorError(
      'carrier-lost-records',
      `${this.name}: ${message} Let no process write to it. Restore the topic, or begin a new log from a local ` +
        'copy that has all of it.',
      { cause },
    )
  }

  /** Ends the connections, and what is repeated; a later call makes new ones. */
  async close(): Promise<void> {
    const opened = this.#opened
    this.#opened = undefined
    this.#closed.abort()
    this.#closed = new AbortController()
    if (opened === undefined) return
    const { admin, producing, fetching } = await opened
    await Promise.all([admin.close(), producing.close(), fetching.close()])
  }

  open(): Promise<OpenClients> {
    this.#opened ??= import('@platformatic/kafka').then((library) => ({
      library,
      admin: new library.Admin(this.#connecting),
      producing: new library.ConnectionPool('hence', this.#connecting),
      fetching: new library.ConnectionPool('hence', this.#connecting),
    }))
    return this.#opened
  }

  async #fetchBatches(topic: string, partition: number, from: number, isolation: number, bytes: number) {
    const { connection, topicId, leaderEpoch } = await this.#leader('fetching', topic, partition)
    const asked = {
      ...{ partition, currentLeaderEpoch: leaderEpoch, fetchOffset: BigInt(from), lastFetchedEpoch: -1 },
      partitionMaxBytes: bytes,
    }
    // At once, whatever there is; outside of a session.
    const [waitMs, bytesMin, session, outside] = [0, 0, 0, -1]
    const topics = [{ topicId, partitions: [asked] }]
    const response = await (await this.open()).library.fetchV13.api.async(
      ...([connection, waitMs, bytesMin, bytes, isolation] as const),
      ...[session, outside],
      topics,
      [],
      '',
    )
    return response.responses[0]!.partitions[0]!
  }

  async #fetch(topic: string, partition: number, from: number): Promise<Fetched & { damaged?: number }> {
    // Uncommitted, since there are no transactions.
    const found = await this.#fetchBatches(topic, partition, from, 0, fetchBytes)
    const records: KafkaRecord[] = []
    let next = from
    let damaged: number | undefined
    for (const batch of found.records ?? []) {
      next = Math.max(next, Number(batch.firstOffset) + batch.lastOffsetDelta + 1)
      for (const { offsetDelta, key, value, headers } of batch.records) {
        const offset = Number(batch.firstOffset) + offsetDelta
        const kept = headers.find(([name]) => name?.equals(checksumHeader))?.[1]
        if (offset < from || kept?.length !== 4 || value === null) continue
        const checksum = kept.readUInt32BE()
        if (crc32(value) !== checksum) damaged ??= offset
        records.push({ offset, key: key?.toString(), value, checksum })
      }
    }
    return { records, next, end: Number(found.highWatermark), ...(damaged !== undefined && { damaged }) }
  }

  async #leader(
    role: Role,
    topic: string,
    partition: number,
  ): Promise<{ connection: Connection; topicId: string; leaderEpoch: number }> {
    const metadata = await this.#metadata(topic, false)
    const found = metadata?.topics.get(topic)
    const state = found?.partitions[partition]
    const broker = metadata?.brokers.get(state?.leader ?? -1)
    if (found === undefined || state === undefined) throw new Error('The topic is not known to the brokers.')
    if (broker === undefined) throw new Error('The partition has no leader.')
    // A broker that was cut off may take itself for the leader, and show less than was acknowledged since.
    const key = `${found.id} ${partition}`
    if (state.leaderEpoch < (this.#epochs.get(key) ?? 0))
      throw new Error('The broker that answered has not learned yet that the partition has another leader.')
    this.#epochs.set(key, state.leaderEpoch)
    return {
      connection: await (await this.open())[role].get(broker),
      topicId: found.id,
      leaderEpoch: state.leaderEpoch,
    }
  }

  /** Returns what the brokers know about a topic; undefined if they do not know it. */
  async #metadata(topic: string, forceUpdate: boolean) {
    try {
      return await (await this.open()).admin.metadata({ topics: [topic], forceUpdate, retries: 0 })
    } catch (error) {
      if (error instanceof Error && error.message === `Unknown topic ${topic}.`) return undefined
      throw error
    }
  }

  #failure(what: string, error: unknown): HenceError {
    if (error instanceof HenceError) return error
    const { code, detail } = reasonOf(error)
    if (code === 'OFFSET_OUT_OF_RANGE') return this.lost(`records of ${what} are gone.`, error)
    const refusal = code === undefined ? undefined : refusals[code]
    if (refusal !== undefined) return this.unusable(`Kafka refuses ${what}: ${detail} ${refusal}`, error)
    const advice = /^(NOT_ENOUGH_REPLICAS|OFFSET_NOT_AVAILABLE)/.test(code ?? '')
      ? 'Fewer replicas than min.insync.replicas are in sync: are brokers down?'
      : /^Connection closed|before secure TLS/.test(detail)
        ? 'Does the port take TLS and a password, and were they given? Otherwise it goes on by itself.'
        : 'It goes on by itself when the brokers answer.'
    const message = `${this.name}: no answer for ${what}: ${detail} ${advice}`
    return retryError('carrier-unreachable', message, { cause: error })
  }
}

export const place = (topic: string, partition: number): string => `topic "${topic}", partition ${partition}`
