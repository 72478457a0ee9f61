import type { RequestListener } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Engine } from 'hence'
import { server } from 'hence/server'
import { type Context, Hono } from 'hono'
import { setCookie } from 'hono/cookie'
import { etag } from 'hono/etag'
import { secureHeaders } from 'hono/secure-headers'
import { flight } from './flight.ts'
import { pageFiles } from './page-files.ts'
import type { Seats } from './seats.ts'
import { cookie, cookieSeconds, newSession, sessionOf } from './session.ts'

/** The web site of one flight's seats. */
export interface Site {
  readonly listener: RequestListener
  /** Finishes requests under way and ends the streams. The engine stays open. */
  close(): Promise<void>
}

/** The permissions of a passenger. Without `read` a passenger sees the rows that the tables' rules allow. */
const permissions = ['submit:hold-seat', 'submit:book-seat', 'submit:release-seat']

export async function openSite(engine: Engine<Seats>): Promise<Site> {
  // Always the same id: the first start opens the flight, and later starts get the stored outcome.
  await engine.submit('open-flight', flight, { requestId: `open-${flight.flight}` })

  const hence = server(engine, {
    path: '/hence',
    authenticate({ headers }) {
      const session = sessionOf(headers)
      // The page names its passenger, because a tab that was left open may not match the cookie.
      if (session === undefined || headers.get('passenger') !== session.passenger) return undefined
      return { principal: session.passenger, permissions }
    },
  })

  const web = new Hono()
  web.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'self'"], baseUri: ["'none'"], frameAncestors: ["'none'"] },
      // The example is served over plain HTTP on the local machine.
      strictTransportSecurity: false,
    }),
  )
  web.use(etag())
  // PUT, because a page of another site cannot send it: that could give this browser a passenger of its
  // choice.
  web.put('/session', (context) => {
    const session = sessionOf(context.req.raw.headers) ?? newSession()
    bake(context, cookie.secret, session.secret, true)
    bake(context, cookie.passenger, session.passenger, false)
    return context.body(null, 204)
  })
  for (const { path, type, body } of await pageFiles()) {
    web.get(path, (context) => context.body(body, 200, { 'content-type': type, 'cache-control': 'no-cache' }))
  }
  const page = getRequestListener(web.fetch, { overrideGlobalObjects: false })
  return {
    listener: (request, response) => hence.node(request, response, () => void page(request, response)),
    close: () => hence.close(),
  }
}

function bake(context: Context, name: string, value: string, httpOnly: boolean): void {
  const secure = new URL(context.req.url).protocol === 'https:'
  setCookie(context, name, value, {
    httpOnly,
    secure,
    sameSite: 'Strict',
    path: '/',
    maxAge: cookieSeconds,
  })
}
