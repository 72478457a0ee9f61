import type { SASLMechanismValue } from '@platformatic/kafka'
import { changeError } from '../failure.ts'
import type { KafkaLogOptions } from './carrier.ts'

const address = /^kafka:\/\/(?:([^:@/]+):([^@/]*)@)?([^@/?]+)\/([\w.-]+)(?:\?(.*))?$/

/**
 * Reads `kafka://user:password@host:port,host:port/topic?tls&mechanism=SCRAM-SHA-512&oneBroker`, of which
 * only the hosts and the topic must be there.
 * @throws HenceError `option-invalid` (change)
 */
export function kafkaLogAt(url: string): KafkaLogOptions {
  const [, username, password, hosts, topic, query] = address.exec(url) ?? []
  const given = new URLSearchParams(query)
  const known = ['tls', 'mechanism', 'oneBroker']
  if (hosts === undefined || topic === undefined || [...given.keys()].some((name) => !known.includes(name))) {
    throw changeError(
      'option-invalid',
      'A log in Kafka has an address like kafka://user:password@host:9092,host:9092/topic, after which may ' +
        `stand ?tls, &mechanism=SCRAM-SHA-256 (or PLAIN) and &oneBroker.`,
    )
  }
  const mechanism = (given.get('mechanism') ?? 'SCRAM-SHA-512') as SASLMechanismValue
  const user = username && { username: decodeURIComponent(username), password: decodeURIComponent(password!) }
  return {
    brokers: hosts.split(','),
    topic,
    ...(given.has('tls') && { tls: {} }),
    ...(user && { sasl: { mechanism, ...user } }),
    ...(given.has('oneBroker') && { oneBroker: true }),
  }
}
