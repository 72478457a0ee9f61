import type { SASLMechanismValue } from '@platformatic/kafka'
import { changeError } from '../failure.ts'
import { checkParameters } from '../log/address.ts'
import type { KafkaLogOptions } from './carrier.ts'

const address = /^kafka:\/\/(?:([^:@/]+):([^@/]*)@)?([^@/?]+)\/([\w.-]+)(?:\?(.*))?$/

/**
 * Reads `kafka://user:password@host:port,host:port/topic?tls&mechanism=SCRAM-SHA-512&oneBroker`, of which
 * only the hosts and the topic must be there.
 */
export function kafkaLogAt(url: string): KafkaLogOptions {
  const [, user, secret, hosts, topic, query] = address.exec(url) ?? []
  const [username, password] = [user, secret].map(decoded)
  const given = new URLSearchParams(query)
  const isWhole = hosts !== undefined && topic !== undefined && !username === !user && !password === !secret
  if (!isWhole) {
    throw changeError(
      'option-invalid',
      'A log in Kafka has an address like kafka://user:password@host:9092,host:9092/topic, after which may ' +
        'stand ?tls, &mechanism=SCRAM-SHA-256 (or PLAIN) and &oneBroker. In user and password @, /, : and % ' +
        'are written as %40, %2F, %3A and %25.',
    )
  }
  checkParameters(given, ['tls', 'mechanism', 'oneBroker'])
  const mechanism = (given.get('mechanism') ?? 'SCRAM-SHA-512') as SASLMechanismValue
  return {
    brokers: hosts.split(','),
    topic,
    ...(given.has('tls') && { tls: {} }),
    ...(username && { sasl: { mechanism, username, password: password! } }),
    ...(given.has('oneBroker') && { oneBroker: true }),
  }
}

/** Undefined if it cannot be decoded. */
function decoded(text = ''): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
