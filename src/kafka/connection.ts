import type { ConnectionOptions } from 'node:tls'
import type { SASLOptions } from '@platformatic/kafka'
import { requirePackage } from '../optional-package.ts'
import { KafkaClient } from './client.ts'

/** How the brokers are reached. */
export interface KafkaConnection {
  /** Some of the brokers, as `host:port`. */
  readonly brokers: readonly string[]
  readonly tls?: ConnectionOptions
  readonly sasl?: SASLOptions
  /** How long a broker may take to answer, and how long what may be repeated is repeated. Default 10 s. */
  readonly timeoutMs?: number
}

/**
 * @param needs the beginning of a sentence, for example `A log in Kafka needs`
 * @throws HenceError `package-missing` (change)
 */
export function kafkaClient(
  options: KafkaConnection & { readonly topic: string; readonly clock?: KafkaClient['clock'] },
  needs: string,
): KafkaClient {
  requirePackage('@platformatic/kafka', needs)
  const { brokers, topic, tls, sasl } = options
  const connecting = { bootstrapBrokers: [...brokers], ...(tls && { tls }), ...(sasl && { sasl }) }
  const name = `kafka://${brokers.join(',')}/${topic}`
  return new KafkaClient(name, { clientId: 'hence', ...connecting }, options)
}
