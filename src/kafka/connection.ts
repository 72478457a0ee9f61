import { isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type { SASLOptions } from '@platformatic/kafka'
import { changeError } from '../failure.ts'
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
 * @throws HenceError `package-missing`, `option-invalid` (change)
 */
export function kafkaClient(
  options: KafkaConnection & { readonly topic: string; readonly clock?: KafkaClient['clock'] },
  needs: string,
): KafkaClient {
  requirePackage('@platformatic/kafka', needs)
  const { brokers, topic, tls, sasl } = options
  // The library connects to such a port in a later turn, and nobody catches what that throws.
  const wrong = brokers.find((each) => !/^[^\s:]/.test(each) || !URL.canParse(`kafka://${each}`))
  if (wrong !== undefined)
    throw changeError(
      'option-invalid',
      `A broker has an address like broker-1.example.org:9092, not ${JSON.stringify(wrong)}.`,
    )
  // Some providers find the cluster by the name that TLS is asked for; an address of IP is none.
  const isNamed = tls?.servername === undefined && !brokers.some((each) => isIP(each.replace(/:\d+$/, '')))
  const safely = tls && { tls, ...(isNamed && { tlsServerName: true }) }
  const connecting = { bootstrapBrokers: [...brokers], ...safely, ...(sasl && { sasl }) }
  const name = `kafka://${brokers.join(',')}/${topic}`
  return new KafkaClient(name, { clientId: 'hence', ...connecting }, options)
}
