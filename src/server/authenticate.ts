import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import { changeError } from '../failure.ts'
import type { IdentifiedCaller } from './access.ts'
import type { Caller } from './caller.ts'
import type { Keys } from './keys.ts'
import { cameByProxy } from './proxy.ts'

/**
 * Identifies the caller of a request, by the host's own sessions or tokens; undefined if it knows none. It
 * must not read the body.
 */
export type Authenticate = (
  request: Request,
  context: {
    /**
     * Node's own request, where the server runs on Node's HTTP: with whatever the host has added, such as
     * `session`.
     */
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

/**
 * @throws HenceError `not-authenticated`, `host-refused`, `origin-refused` (change), `keys-unreadable`
 *   (operator)
 */
export function authenticator(options: {
  readonly authenticate: Authenticate | undefined
  /** The function that the host has passed with a request; it takes precedence over `authenticate`. */
  readonly callerOf: (incoming: IncomingMessage) => CallerOf | undefined
  readonly keys: Keys | undefined
  readonly origins: readonly string[]
  readonly clock: Clock
}): (
  request: Request,
  incoming: IncomingMessage | undefined,
) => IdentifiedCaller | Promise<IdentifiedCaller> {
  const { authenticate, keys, origins, clock } = options
  const isOpen = authenticate === undefined && keys === undefined
  const known = async (
    request: Request,
    incoming: IncomingMessage | undefined,
    callerOf: CallerOf | undefined,
  ): Promise<IdentifiedCaller> => {
    const secret = keys && secretOf(request.headers.get('authorization'))
    const key = secret && (await keys.callerOf(secret))
    if (key) return { caller: key, isCurrent: () => keys.isCurrent(key) }
    // Counted from before it is asked, because the session may end while the host finds it.
    const askedAt = clock.now()
    const caller = await (callerOf ? callerOf() : authenticate?.(request, { incoming }))
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
    checkLocal(request.headers, incoming, origins)
    return { caller: anybody, isCurrent: () => true }
  }
}

function secretOf(header: string | null): string | undefined {
  return header === null ? undefined : /^Bearer +(hence_[\w-]{43})$/i.exec(header)?.[1]
}

/**
 * Without authentication the machine itself is the boundary, but its browsers run the pages of strangers. So
 * the connection must come from this machine, by a name that only this machine has (a page that rebinds its
 * own name to 127.0.0.1 sends that name as Host), and not from a script of another origin.
 */
function checkLocal(
  headers: Headers,
  incoming: IncomingMessage | undefined,
  origins: readonly string[],
): void {
  const address = incoming?.socket.remoteAddress
  const host = headers.get('host') ?? ''
  // A proxy on this machine connects from it, whoever it connects for.
  const forwarded = cameByProxy(headers, incoming)
  if (address === undefined || !isLoopback(address) || forwarded || !isLoopback(nameOf(host))) {
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
