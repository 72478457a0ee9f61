import type { GenericError } from '@platformatic/kafka'

const notTrusted =
  'Give the authority of its certificate, as `tls.ca` or NODE_EXTRA_CA_CERTS, and a name that it is for.'

/** Errors of Kafka, and of TLS, after which a repetition would fail too, and what to do. */
export const refusals: Readonly<Record<string, string>> = {
  MESSAGE_TOO_LARGE: 'Raise max.message.bytes of the topic.',
  RECORD_LIST_TOO_LARGE: 'Raise segment.bytes of the topic.',
  TOPIC_AUTHORIZATION_FAILED: 'Allow the user Describe, DescribeConfigs, Read and Write on it.',
  CLUSTER_AUTHORIZATION_FAILED: 'Allow the user Create on the cluster, or make the topics yourself.',
  SASL_AUTHENTICATION_FAILED: 'Check the user and its password.',
  PLT_KFK_AUTHENTICATION:
    'Check the user, its password and the mechanism, and whether the port takes TLS and a password.',
  UNSUPPORTED_SASL_MECHANISM: 'Give a mechanism that the brokers have enabled.',
  POLICY_VIOLATION: 'Make the topics yourself, or change the policy.',
  INVALID_REPLICATION_FACTOR: 'It needs three brokers; for development, see `oneBroker`.',
  INVALID_CONFIG: 'Make the topics yourself.',
  INVALID_TOPIC_EXCEPTION: 'Give a name of letters, digits, ".", "_" and "-".',
  UNSUPPORTED_VERSION: 'It needs Kafka 3.5 or later.',
  DEPTH_ZERO_SELF_SIGNED_CERT: notTrusted,
  SELF_SIGNED_CERT_IN_CHAIN: notTrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: notTrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: notTrusted,
  ERR_TLS_CERT_ALTNAME_INVALID: notTrusted,
}

/** The most telling of the errors that the library has put into one another. */
export function reasonOf(error: unknown): { code: string | undefined; detail: string } {
  const all: (GenericError & { apiId?: string; errors?: Error[] })[] = []
  const collect = (each: unknown) => {
    if (!(each instanceof Error) || all.length > 50) return
    all.push(each as GenericError)
    for (const inner of (each as AggregateError).errors ?? []) collect(inner)
    collect(each.cause)
  }
  collect(error)
  const refused = all.find((each) => refusals[each.apiId ?? each.code] !== undefined)
  const answered = refused ?? all.find((each) => each.apiId !== undefined) ?? all.at(-1)
  const code = answered?.apiId ?? answered?.code
  return { code, detail: `${answered?.apiId ?? answered?.message ?? String(error)}.`.replace(/\.+$/, '.') }
}
