import type { IncomingMessage } from 'node:http'
import type { AskedRequest } from './asked.ts'

const proxyHeader = /^(forwarded|x-forwarded-.*|x-real-ip|via|cf-.*)$/i

/** Whether a request shows that it came through a proxy. */
export function cameByProxy({ headers }: AskedRequest, incoming: IncomingMessage | undefined): boolean {
  if (incoming === undefined) return [...(headers.keys?.() ?? [])].some((name) => proxyHeader.test(name))
  const { rawHeaders, httpVersion } = incoming
  return httpVersion === '1.0' || rawHeaders.some((name, i) => i % 2 === 0 && proxyHeader.test(name))
}
