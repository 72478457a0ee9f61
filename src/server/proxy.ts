import type { IncomingMessage } from 'node:http'

const proxyHeader = /^(forwarded|x-forwarded-.*|x-real-ip|via|cf-.*)$/i

/** Whether a request shows that it came through a proxy. */
export function cameByProxy(headers: Headers, incoming: IncomingMessage | undefined): boolean {
  if (incoming === undefined) return [...headers.keys()].some((name) => proxyHeader.test(name))
  // The names of a `Request` are made with copies of all headers, which `get` would then read from.
  const { rawHeaders, httpVersion } = incoming
  return httpVersion === '1.0' || rawHeaders.some((name, i) => i % 2 === 0 && proxyHeader.test(name))
}
