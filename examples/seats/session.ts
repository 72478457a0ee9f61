import { createHash, randomBytes } from 'node:crypto'
import { parse } from 'hono/utils/cookie'

/**
 * Who is at a browser: whoever has its cookie. A real site has logins; here every browser is a passenger of its own.
 *
 *   seats-session    the secret, which no script of the page can read
 *   seats-passenger  the name that follows from it, for the page; it opens the outbox of this passenger also offline
 *
 * The name goes into the log with every request and stays there. The secret cannot be told from it.
 */
export interface Session {
  readonly secret: string
  readonly passenger: string
}

/** Named after the example: cookies of localhost are those of whatever runs there, on every port. */
export const cookie = { secret: 'seats-session', passenger: 'seats-passenger' }

/** How long the cookies last, in seconds: as long as browsers let them. */
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
