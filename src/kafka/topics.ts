import type { Reporter } from '../report.ts'
import type { KafkaClient, TopicState } from './client.ts'

/** How a topic is made, and what it must be. */
export interface TopicRules {
  readonly cleanup: 'delete' | 'compact'
  readonly partitions: number
  /** One broker is enough: an acknowledged record then goes with its disk. */
  readonly oneBroker: boolean
}

const replicasMin = 3
const inSyncMin = 2

/** The size that topics are made with: the largest record of a log in a batch of its own, with its headers. */
const messageBytes = 17 * 1024 * 1024

/** The most that Kafka adds to a value. */
const overheadBytes = 1024

/** The largest value that a topic made here takes, in bytes. */
export const batchBytesMade = messageBytes - overheadBytes

export async function makeTopic(client: KafkaClient, topic: string, rules: TopicRules): Promise<TopicState> {
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
 * @throws HenceError `carrier-unusable` (operator)
 */
export async function checkTopic(
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
  return Number(settings.get('max.message.bytes')) - overheadBytes
}

function must({ cleanup }: TopicRules): Readonly<Record<string, string>> {
  const safe = { 'cleanup.policy': cleanup, 'unclean.leader.election.enable': 'false' }
  return cleanup === 'compact' ? safe : { ...safe, 'retention.ms': '-1', 'retention.bytes': '-1' }
}
