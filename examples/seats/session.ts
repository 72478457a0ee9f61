import { createHash, randomBytes } from 'node:crypto'
import { parse } from 'hono/utils/cookie'

/**
 * The passenger of a browser, by cookie. A real site has logins; here every browser is a separate passenger.
 *
 *   seats-session    the secret, which no script of the page can read
 *   seats-passenger  the name derived from it, for the page: it opens this passenger's outbox, also offline
 *
 * The name is in the log with every request. The secret cannot be computed from it.
 */
export interface Session {
  readonly secret: string
  readonly passenger: string
}

/** Named after the example, because every program on localhost shares its cookies, whatever the port. */
export const cookie = { secret: 'seats-session', passenger: 'seats-passenger' }

/** The lifetime of the cookies in seconds: the longest that browsers allow. */
export const cookieSeconds = 400 * 24 * 60 * 60

/** @returns undefined without a cookie that this site could have set */
export function sessionOf(headers: Headers): Session | undefined {
  const secret = parse(headers.get('cookie') ?? '', cookie.secret)[cookie.secret]
  return secret !== undefined && /^[\w-]{43}$/.test(secret) ? named(secret) : undefined
}

export function newSession(): Session {
  return named(randomBytes(32).toString('base64url'))
}

function named(secret: string): Session {
  return { secret, passenger: createHash('sha256').update(secret).digest('hex').slice(0, 32) }
}
