import type { App } from '../app/index.ts'
import { type Reporter, reporterOf } from '../report.ts'
import {
  type Source,
  type SourceFeed,
  type SourceMessage,
  type SourcePage,
  type SourceSettings,
  source,
} from '../source/source.ts'
import type { ForeignRecord, KafkaClient } from './client.ts'
import { type KafkaConnection, kafkaClient } from './connection.ts'

/** A record of a topic. */
export interface KafkaMessage extends ForeignRecord {
  readonly partition: number
}

export interface KafkaSourceOptions<A extends App> extends SourceSettings<A, KafkaMessage>, KafkaConnection {
  readonly topic: string
  /** See `source`. Default: the name of the topic. */
  readonly name?: string
}

/**
 * Makes requests of the records of a topic; see `source`. Records with one key become requests one after
 * another, and those of a partition that have none. Transactions that were aborted are left out. Its position
 * is that of the consumer group `hence.NAME.LOG`, which has no members: one process reads, that of the
 * engine.
 *
 * It needs the npm package `@platformatic/kafka`, which you install.
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function kafkaSource<A extends App>(options: KafkaSourceOptions<A>): Source {
  const { engine, topic, name = topic, pollMs = 200, report } = options
  const client = kafkaClient(options, 'A source in Kafka needs')
  const feed = topicFeed(client, topic, `hence.${name}.${engine.stats().logId}`, reporterOf(report))
  const started = source<A, KafkaMessage>({ ...options, name, pollMs, feed })
  return {
    stats: () => started.stats(),
    async close() {
      const closed = started.close()
      // Ends what waits for a broker.
      await client.close()
      await closed
    },
  }
}

/** @param group the name of the consumer group that keeps the position */
function topicFeed(
  client: KafkaClient,
  topic: string,
  group: string,
  report: Reporter,
): SourceFeed<KafkaMessage> {
  /** Of the present topic of that name: another one would give the same offsets to other records. */
  let topicId = ''
  /** By partition. */
  let starts: readonly number[] = []

  /** With the topic, Kafka removes the positions of its groups. */
  async function position(): Promise<string> {
    const { id, partitions } = await client.existing(topic)
    topicId = id.slice(0, 8)
    starts = await client.starts(topic, partitions)
    const ends = await client.ends(topic, partitions)
    const asked = { groupId: group, topics: [{ name: topic, partitionIndexes: partitions }] }
    const groups = await client.repeated(`group "${group}"`, async () =>
      (await client.open()).admin.listConsumerGroupOffsets({ groups: [asked] }),
    )
    const kept = groups[0]?.topics[0]?.partitions ?? []
    const at = partitions.map((partition) => {
      const found = kept.find(({ partitionIndex }) => partitionIndex === partition)
      const offset = Number(found?.committedOffset ?? -1)
      if (offset > ends[partition]!) {
        throw client.lost(
          `topic "${topic}", partition ${partition} was read up to offset ${offset}, and ends at ${ends[partition]}.`,
        )
      }
      if (offset >= 0) return available(partition, offset)
      return starts[partition]!
    })
    return at.join('.')
  }

  async function pull(position: string | undefined): Promise<SourcePage<KafkaMessage>> {
    const at = position!.split('.').map(Number)
    const fetched = await Promise.all(
      at.map((from, partition) => client.fetchForeign(topic, partition, from)),
    )
    const messages = fetched.flatMap(({ records }, partition) =>
      records.map(
        (record): SourceMessage<KafkaMessage> => ({
          place: `${topicId}:${partition}:${record.offset}`,
          key: record.key === undefined ? `partition ${partition}` : `key ${record.key.toString('latin1')}`,
          message: { ...record, partition },
        }),
      ),
    )
    return { messages, position: fetched.map(({ next }) => next).join('.') }
  }

  async function keep(position: string): Promise<void> {
    const partitionOffsets = position
      .split('.')
      .map((offset, partition) => ({ partition, offset: BigInt(offset) }))
    const topics = [{ name: topic, partitionOffsets }]
    await client.repeated(`group "${group}"`, async () =>
      (await client.open()).admin.alterConsumerGroupOffsets({ groupId: group, topics }),
    )
  }

  /** The offset, or the first one after it that the topic still has. */
  function available(partition: number, offset: number): number {
    const start = starts[partition]!
    if (offset >= start) return offset
    const message = `Topic "${topic}", partition ${partition} has removed the records from offset ${offset} to ${start - 1} before they were read.`
    report({ level: 'alarm', code: 'source-lost', message })
    return start
  }

  return { position, pull, keep }
}
