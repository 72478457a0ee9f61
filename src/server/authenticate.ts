import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import { changeError } from '../failure.ts'
import type { IdentifiedCaller } from './access.ts'
import { AskedOfNode, type AskedRequest } from './asked.ts'
import type { Caller } from './caller.ts'
import type { Keys } from './keys.ts'
import { cameByProxy } from './proxy.ts'

/** Identifies the caller by the host's sessions or tokens; undefined: none. It must not read the body. */
export type Authenticate = (
  request: Request,
  context: {
    /** Node's own request, on Node's HTTP, with whatever the host has added, such as `session`. */
    readonly incoming: IncomingMessage | undefined
  },
) => Caller | undefined | Promise<Caller | undefined>

/**
 * Returns the caller of one request, as its host knows it; undefined if it knows none. It is called again, at
 * most once a second, while a stream or a batch goes on, so it must notice that a session has ended.
 */
export type CallerOf = () => Caller | undefined | Promise<Caller | undefined>

/** How long a session of the host counts before the host is asked again. */
const sessionMs = 1_000

/** Of an open server: everybody on this machine may do everything. */
const anybody: Caller = { principal: '', permissions: ['admin'] }

export function authenticator(options: {
  readonly authenticate: Authenticate | undefined
  /** The function that the host has passed with a request; it takes precedence over `authenticate`. */
  readonly callerOf: (incoming: IncomingMessage) => CallerOf | undefined
  readonly keys: Keys | undefined
  readonly origins: readonly string[]
  readonly clock: Clock
}): (
  request: AskedRequest,
  incoming: IncomingMessage | undefined,
) => IdentifiedCaller | Promise<IdentifiedCaller> {
  const { authenticate, keys, origins, clock } = options
  const isOpen = authenticate === undefined && keys === undefined
  type Incoming = IncomingMessage | undefined
  const known = async (
    request: AskedRequest,
    incoming: Incoming,
    callerOf: CallerOf | undefined,
  ): Promise<IdentifiedCaller> => {
    const secret = keys && secretOf(request.headers.get('authorization'))
    const key = secret && (await keys.callerOf(secret))
    if (key) return { caller: key, isCurrent: () => keys.isCurrent(key) }
    // Counted from before it is asked, because the session may end while the host finds it.
    const askedAt = clock.now()
    const caller = await (callerOf ? callerOf() : authenticate?.(wholeOf(request), { incoming }))
    if (caller) return { caller, isCurrent: () => Math.abs(clock.now() - askedAt) < sessionMs }
    throw changeError(
      'not-authenticated',
      keys === undefined
        ? 'The host does not know the sender of this request.'
        : 'Send an API key as `Authorization: Bearer hence_…`; this one is missing, unknown, revoked or expired.',
    )
  }
  return (request, incoming) => {
    const callerOf = incoming && options.callerOf(incoming)
    if (!isOpen || callerOf) return known(request, incoming, callerOf)
    checkLocal(request, incoming, origins)
    return { caller: anybody, isCurrent: () => true }
  }
}

/** A request that is not of Node's is a `Request`. */
const wholeOf = (request: AskedRequest) =>
  request instanceof AskedOfNode ? request.whole() : (request as Request)

function secretOf(header: string | null): string | undefined {
  return header === null ? undefined : /^Bearer +(hence_[\w-]{43})$/i.exec(header)?.[1]
}

/**
 * Without authentication the machine is the boundary, but its browsers run the pages of strangers: one that
 * rebinds its own name to 127.0.0.1 sends that name as Host.
 */
function checkLocal(
  request: AskedRequest,
  incoming: IncomingMessage | undefined,
  origins: readonly string[],
): void {
  const { headers } = request
  const address = incoming?.socket.remoteAddress ?? ''
  const host = headers.get('host') ?? ''
  // A proxy on this machine connects from it, whoever it connects for.
  if (!isLoopback(address) || cameByProxy(request, incoming) || !isLoopback(nameOf(host))) {
    throw changeError(
      'host-refused',
      'This server has neither keys nor `authenticate`, so it answers this machine only, as localhost. ' +
        'Make a key (`hence keys create`), or pass `authenticate`.',
    )
  }
  const origin = headers.get('origin')
  const foreign =
    origin === null
      ? headers.get('sec-fetch-site') === 'cross-site'
      : origin !== `http://${host}` && origin !== `https://${host}`
  if (foreign && !(origin !== null && origins.includes(origin))) {
    throw changeError(
      'origin-refused',
      'A page of another origin sent this to a server without authentication. Name the origin in `cors` to allow it.',
    )
  }
}

const nameOf = (host: string): string => host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')

/** Whether an address or a host name can only mean this machine. */
export function isLoopback(name: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/i.test(name)
}
