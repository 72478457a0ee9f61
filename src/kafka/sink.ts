import type { App, RequestName, TableName } from '../app/index.ts'
import { onAbort } from '../clock.ts'
import { BatchReader, type MirroredRow, pagesOf } from '../engine/batches.ts'
import type { Engine } from '../engine/engine.ts'
import { HenceError } from '../failure.ts'
import { keepTrying } from '../keep-trying.ts'
import { type Reporter, reporterOf } from '../report.ts'
import type { ForeignRecord, KafkaClient } from './client.ts'
import { type KafkaConnection, kafkaClient } from './connection.ts'

export interface KafkaSinkOptions<A extends App> extends KafkaConnection {
  readonly engine: Engine<A>
  /** A topic that no other sink writes to; it must exist. */
  readonly topic: string
  /** The requests whose outcomes it gets. */
  readonly requests?: readonly RequestName<A>[]
  /** The events that it gets. */
  readonly events?: readonly string[]
  /** The tables whose changed rows it gets, with their state before and after. */
  readonly tables?: readonly TableName<A>[]
  /** Instead of messages: the rows of this view, for a compacted topic. */
  readonly view?: TableName<A>
  readonly report?: Reporter
}

export interface KafkaSink {
  /** The number of records that the topic has acknowledged since the start. */
  stats(): { readonly records: number }
  close(): Promise<void>
}

type SentRecord = Pick<ForeignRecord, 'value'> & {
  readonly key: string
  readonly headers: Record<string, string>
}

/** A request of about so many bytes at most, or of one record; topics take 1 MiB by default. */
const bytesAtOnce = 512 * 1024

/**
 * Writes outcomes of requests, events and changed rows to a topic, as plain records under their keys, or the
 * rows of a view. After a failure it goes on at the position that the last records of the topic name, and may
 * repeat records: a reader skips those whose `hence-sequence` is not greater, as text, than the last one of
 * the same partition of the topic. So it gets each once, in order per key.
 *
 * It needs the npm package `@platformatic/kafka`, which you install.
 * @throws HenceError `package-missing` (change)
 */
export function kafkaSink<A extends App>(options: KafkaSinkOptions<A>): KafkaSink {
  const { topic } = options
  const client = kafkaClient(options, 'A sink to Kafka needs')
  const sink = topicSink(client, options as unknown as KafkaSinkOptions<App>)
  const stopping = new AbortController()
  const ended = keepTrying({
    ...{ name: `The sink to the Kafka topic "${topic}"`, code: 'kafka-held-up', signal: stopping.signal },
    report: reporterOf(options.report),
    run: (working) => sink.run(stopping.signal, working),
  })
  return {
    stats: () => ({ records: sink.records }),
    async close() {
      stopping.abort()
      await client.close()
      await ended
    },
  }
}

function topicSink(client: KafkaClient, options: KafkaSinkOptions<App>) {
  const { engine, topic } = options
  /** Begins the position in a record. */
  const log = `${engine.stats().logId}@`
  let partitions: readonly number[] = []
  const sink = { records: 0, run }

  /** @param working called when records were written */
  async function run(signal: AbortSignal, working: () => void): Promise<void> {
    partitions = (await client.existing(topic)).partitions
    const last = await newest()
    const from = last?.headers.get('hence-from')?.toString()
    if (from !== undefined && !from.startsWith(log))
      throw client.unusable(`Topic "${topic}" has records of another log. Give the sink a new topic.`)
    if (options.view !== undefined) {
      const run = Number(last?.headers.get('hence-sequence')?.toString().split('.')[0] ?? 0) + 1
      await sendRows(options.view, run, signal, working)
    } else await sendMessages(from?.slice(log.length), signal, working)
  }

  /** @param from empty or undefined: from the oldest on */
  async function sendMessages(from = '', signal: AbortSignal, working: () => void): Promise<void> {
    const { requests, events, tables } = options
    const given = { requests, events, tables, signal, ...(from !== '' && { from }) }
    let before = from
    for await (const { position, messages } of engine.messages(given)) {
      await write(
        messages.map(
          ({ kind, name, key, sequence, requestId, principal, message }): SentRecord => ({
            key: kind === 'tables' ? JSON.stringify(message.key) : kind === 'events' ? message.key : key,
            value: Buffer.from(JSON.stringify(message)),
            headers: {
              ...{ 'hence-sequence': sequence, 'hence-from': log + before },
              ...{ 'hence-kind': kind, 'hence-name': name, 'hence-token': message.token },
              ...(requestId !== undefined && {
                'hence-request': requestId,
                'hence-principal': principal ?? '',
              }),
            },
          }),
        ),
      )
      before = position
      working()
    }
  }

  /** Writes all rows, removes those that the topic has beyond them, and then writes each change. */
  async function sendRows(
    view: string,
    run: number,
    signal: AbortSignal,
    working: () => void,
  ): Promise<void> {
    let count = 0
    const writeRows = async (
      rows: readonly { readonly key: string; readonly json: string | undefined }[],
    ) => {
      await write(
        rows.map(({ key, json }): SentRecord => {
          const sequence = `${`${run}`.padStart(16, '0')}.${`${count++}`.padStart(16, '0')}`
          const headers = { 'hence-sequence': sequence, 'hence-from': `${log}view`, 'hence-name': view }
          return { key, headers, value: json === undefined ? undefined : Buffer.from(json) }
        }),
      )
      working()
    }
    const keyed = (rows: readonly MirroredRow[]) =>
      rows.map(({ key, json }) => ({ key: JSON.stringify(key), json }))
    while (!signal.aborted) {
      const batches = new BatchReader(engine, await engine.viewPosition(view), new Set([view]), view)
      const forget = onAbort(signal, () => batches.end())
      try {
        const gone = await keys()
        for await (const page of pagesOf(engine, view)) {
          const rows = keyed(page)
          await writeRows(rows)
          for (const { key } of rows) gone.delete(key)
        }
        await writeRows([...gone].map((key) => ({ key, json: undefined })))
        for (let isLast = false; !isLast; ) {
          const batch = await batches.take(true)
          await writeRows(keyed(batch.rows.get(view) ?? []))
          isLast = batch.isLast
        }
        return
      } catch (error) {
        // Other rows answer now, or changes came faster than they were written.
        if (!(error instanceof HenceError) || error.code !== 'position-unknown') throw error
      } finally {
        forget()
        batches.end()
      }
    }
  }

  /** Writes records; each partition gets its own in their order. */
  async function write(records: readonly SentRecord[]): Promise<void> {
    const { murmur2 } = (await client.open()).library
    // As the clients of Kafka spread keys.
    const partitionOf = (key: Buffer) => (murmur2(key) & 0x7fffffff) % partitions.length
    const byPartition = new Map<number, Pick<ForeignRecord, 'key' | 'value' | 'headers'>[]>()
    for (const { key, value, headers } of records) {
      const bytes = Buffer.from(key)
      const partition = partitionOf(bytes)
      if (!byPartition.has(partition)) byPartition.set(partition, [])
      const written = new Map(Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)]))
      byPartition.get(partition)!.push({ key: bytes, value, headers: written })
    }
    await Promise.all([...byPartition].map(([partition, all]) => writeTo(partition, all)))
    sink.records += records.length
  }

  async function writeTo(
    partition: number,
    records: readonly Pick<ForeignRecord, 'key' | 'value' | 'headers'>[],
  ): Promise<void> {
    for (let done = 0; done < records.length; ) {
      let end = done
      for (let bytes = 0; end < records.length && (end === done || bytes < bytesAtOnce); end++)
        bytes += (records[end]!.value?.length ?? 0) + 512
      await client.produceForeign(topic, partition, records.slice(done, end))
      done = end
    }
  }

  /** The record with the greatest sequence: everything before its position is in the topic. */
  async function newest(): Promise<ForeignRecord | undefined> {
    const starts = await client.starts(topic, partitions)
    const ends = await client.ends(topic, partitions)
    let last: ForeignRecord | undefined
    for (const partition of partitions) {
      const [start, end] = [starts[partition]!, ends[partition]!]
      let found: ForeignRecord | undefined
      for (let back = 16, from = end; found === undefined && from > start; back *= 4) {
        from = Math.max(start, end - back)
        for await (const record of records(partition, from, end)) if (isGreater(record, found)) found = record
      }
      if (found !== undefined && isGreater(found, last)) last = found
    }
    return last
  }

  /** The keys of the topic that have a value. */
  async function keys(): Promise<Set<string>> {
    const starts = await client.starts(topic, partitions)
    const ends = await client.ends(topic, partitions)
    const keys = new Set<string>()
    for (const partition of partitions) {
      for await (const { key, value } of records(partition, starts[partition]!, ends[partition]!)) {
        if (value === undefined) keys.delete(`${key}`)
        else keys.add(`${key}`)
      }
    }
    return keys
  }

  async function* records(partition: number, from: number, end: number): AsyncGenerator<ForeignRecord> {
    for (let at = from; at < end; ) {
      const { records, next } = await client.fetchForeign(topic, partition, at)
      yield* records
      if (next === at) return
      at = next
    }
  }

  return sink
}

const sequenceOf = (record: ForeignRecord | undefined): string =>
  `${record?.headers.get('hence-sequence') ?? ''}`

const isGreater = (record: ForeignRecord, than: ForeignRecord | undefined): boolean =>
  sequenceOf(record) > sequenceOf(than)
