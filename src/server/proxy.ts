import type { IncomingMessage } from 'node:http'

const proxyHeader = /^(forwarded|x-forwarded-.*|x-real-ip|via|cf-.*)$/

/** Whether a request shows that it came through a proxy. */
export function cameByProxy(headers: Headers, incoming: IncomingMessage | undefined): boolean {
  return incoming?.httpVersion === '1.0' || [...headers.keys()].some((name) => proxyHeader.test(name))
}
