import type { IncomingMessage, ServerResponse } from 'node:http'
import type { App } from '../app/index.ts'
import { type Clock, systemClock } from '../clock.ts'
import type { Engine, Standby } from '../engine/engine.ts'
import { changeError, HenceError, operatorError } from '../failure.ts'
import { Alarms, type Report, type Reporter, reporterOf } from '../report.ts'
import { Access, type IdentifiedCaller } from './access.ts'
import { Activity } from './activity.ts'
import { type Answer, drop, responseOf, writeAnswer } from './answer.ts'
import { AskedOfNode, type AskedRequest } from './asked.ts'
import { type Authenticate, authenticator, type CallerOf, isLoopback } from './authenticate.ts'
import { closingSoon } from './batch.ts'
import { BodyReader } from './body.ts'
import { allows, type Caller } from './caller.ts'
import { type Cors, corsOf } from './cors.ts'
import { keysOf } from './keys.ts'
import { type Limits, limitsOf } from './limits.ts'
import { Listener, type Listening } from './listen.ts'
import { Metrics } from './metrics.ts'
import { readQuery } from './parameter.ts'
import { problemAnswer, problemOf, unforeseen } from './problem.ts'
import { type Arrival, addressOf, type Route, Router } from './route.ts'
import { routes } from './routes.ts'
import { notAllowed, RowRules } from './row-rules.ts'
import type { Serving } from './serving.ts'
import { byAge } from './standby.ts'
import type { StartingServer } from './starting.ts'
import { openTelemetry, type Tracing } from './telemetry.ts'
import { heldAnswer } from './text-stream.ts'

export interface ServerOptions {
  /** The host's own sessions or tokens. */
  readonly authenticate?: Authenticate
  /** The file of API keys, conventionally `keys.json` in the data directory; asked before `authenticate`. */
  readonly keys?: string
  /**
   * Without the two before: everybody on this machine may do everything. For development; pages of other
   * origins and requests that came through a proxy are refused.
   */
  readonly open?: boolean
  /** The path that the server is mounted at, if the host leaves it in the address: `/hence`. Default: none. */
  readonly path?: string
  /** Origins whose pages may use the server. Default: none but its own. */
  readonly cors?: Cors
  readonly limits?: Partial<Limits>
  /** Receives warnings and alarms for an operator, never a secret. Default: prints them to standard error. */
  readonly report?: Reporter
  readonly clock?: Clock
}

/** An engine over HTTP. */
export interface Server {
  /** Answers a request; for hosts that use `fetch`, such as Hono and Next. */
  fetch(request: Request): Promise<Response>
  /**
   * Answers a request of Node's own server; for Express, Fastify and similar hosts. Paths that are not the
   * server's go to `next`. Mount it before body parsers.
   * @param options.caller identifies the sender of this request, instead of `authenticate`
   */
  node(
    request: IncomingMessage,
    response: ServerResponse,
    next?: () => void,
    options?: { readonly caller?: CallerOf },
  ): void
  /**
   * Opens a listener, or takes over the one of a `StartingServer`.
   * @throws HenceError `listen-unsafe` (change) on an address beyond this machine with `open`,
   *   `listen-failed` (operator)
   */
  listen(options?: {
    readonly port?: number
    readonly host?: string
    readonly starting?: StartingServer
  }): Promise<Listening>
  /** Refuses new requests, finishes those under way, ends streams, and stops listening. The engine stays open. */
  close(): Promise<void>
}

/**
 * Serves an engine, or the reads of a standby, over HTTP; see docs/reference/http.md for its routes.
 * @throws HenceError `keys-missing` (change) without `keys`, `authenticate` and `open`; `option-invalid`
 *   (change)
 */
export function server<A extends App>(engine: Engine<A> | Standby<A>, options: ServerOptions = {}): Server {
  const { clock = systemClock, authenticate, path = '' } = options
  const alarms = new Alarms()
  const report = alarms.keeping(reporterOf(options.report), clock)
  if (!/^(\/[\w.~-]+)*$/.test(path)) {
    throw changeError(
      'option-invalid',
      `\`path\` must be like "/hence", without a slash at its end, not ${JSON.stringify(path)}.`,
    )
  }
  checkGuard(options)
  const limits = limitsOf(options.limits)
  const standby = 'refusal' in engine ? (engine as unknown as Standby<App>) : undefined
  const closing = new AbortController()
  const activity = new Activity()
  const metrics = new Metrics()
  const serving: Serving = {
    ...{ engine: engine as never, standby, path, limits, clock, report, alarms, activity },
    bodies: new BodyReader(limits),
    rules: new RowRules(engine, report),
    closing: closing.signal,
  }
  const keys = options.keys === undefined ? undefined : keysOf(options.keys, clock, report)
  const callers = new WeakMap<IncomingMessage, CallerOf>()
  const callerOf = (incoming: IncomingMessage) => callers.get(incoming)
  const origins = options.cors?.origins ?? []
  const identify = authenticator({ authenticate, callerOf, keys, origins, clock })
  let tracing: Tracing | undefined
  void openTelemetry().then((found) => {
    tracing = found
  })

  const table = routes(serving, metrics)
  const router = new Router(table)

  /** Finds the route of a request, checks what the route states, and lets it answer. */
  const answer = (request: AskedRequest, incoming: IncomingMessage | undefined): Promise<Answer> | Answer => {
    const address = addressOf(request.url, path)
    const found = address && router.find(request.method, address.segments)
    if (found === undefined || !('route' in found)) return nowhere(found?.methods ?? [])
    const { route, parts } = found
    const arriving = { request, incoming, parts, query: address!.query }
    if (tracing === undefined) return counted(route, arriving)
    return tracing.run(request, route.path, () => counted(route, arriving))
  }
  const counted = async (route: Route, arriving: FoundRoute): Promise<Answer> => {
    activity.begin()
    metrics.arriving()
    const handle = () => handled(route, arriving)
    const answered = await byAge(engine, standby, route, arriving.request, handle).catch(refusal)
    activity.end()
    metrics.count(route, answered.status)
    return answered
  }
  const handled = async (
    route: Route,
    { request, incoming, parts, query: given }: FoundRoute,
  ): Promise<Answer> => {
    const { permission, body } = route
    if (permission !== 'none' && closing.signal.aborted) throw closingSoon()
    const identifyIt = () => (permission === 'none' ? nobody : identify(request, incoming))
    const known = identifyIt()
    const access = new Access(
      identifyIt,
      (caller) => checkPermission(caller, permission),
      known instanceof Promise ? await known : known,
    )
    const { caller } = access
    const query = route.anyQuery ? {} : readQuery(route.query ?? {}, given)
    if (request.method === 'HEAD' && route.isLong) return headOf(route)
    const sender = { request, incoming, principal: caller.principal }
    const json = body?.isChecked && (await serving.bodies.checked(sender, body.schema))
    if (!access.isCurrent) await access.renew()
    const answered = await route.handle({ request, incoming, caller, access, parts, query, body: json })
    try {
      if (!access.isCurrent) await access.renew()
      return heldAnswer(serving, caller.principal, answered)
    } catch (error) {
      drop(answered)
      throw error
    }
  }
  const refusal = (error: unknown): Answer => {
    const known = error instanceof HenceError
    if (!known) {
      report({ level: 'alarm', code: 'internal-error', message: `A request over HTTP failed: ${error}` })
    }
    return problemAnswer(problemOf(known ? error : unforeseen()))
  }

  // A standby whose process becomes active would say so twice.
  if (options.open && standby === undefined) report(saysOpen)

  const cors = options.cors && corsOf(options.cors)
  const respond = async (request: AskedRequest, incoming?: IncomingMessage): Promise<Answer> => {
    let answered = cors?.preflight(request)
    if (answered !== undefined) return answered
    try {
      answered = await answer(request, incoming)
    } catch (error) {
      answered = refusal(error)
    }
    if (request.method === 'HEAD') answered = { ...answered, body: drop(answered) }
    return cors === undefined ? answered : cors.opened(request, answered)
  }

  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    try {
      const request = new AskedOfNode(incoming, outgoing)
      writeAnswer(outgoing, await respond(request, incoming))
    } catch (error) {
      if (outgoing.headersSent) outgoing.destroy()
      else writeAnswer(outgoing, refusal(error))
    }
  }
  const isOurs = (url: string) =>
    url.startsWith(`${path}/`) && router.knows(url.slice(path.length + 1).split(/[/?#]/, 1)[0]!)
  let listener: Listener | undefined
  let closed: Promise<void> | undefined
  return {
    fetch: async (request) => responseOf(await respond(request)),
    node(request, response, next, { caller } = {}) {
      if (next !== undefined && !isOurs(request.url ?? '')) return next()
      if (request.readableDidRead) {
        writeAnswer(response, problemAnswer(problemOf(bodyIsGone())))
        return
      }
      if (caller !== undefined) callers.set(request, caller)
      void serve(request, response)
    },
    async listen({ port = 0, host = '127.0.0.1', starting } = {}) {
      if (options.open) checkUnguarded(host)
      listener = starting?.handOver(serve) ?? new Listener(serve, limits)
      return listener.open(host, port)
    },
    close() {
      closed ??= (async () => {
        closing.abort()
        listener?.stop()
        const isIdle = await activity.idle(limits.drainMs)
        await listener?.end(isIdle ? 1_000 : 0)
      })()
      return closed
    },
  }
}

const nobody: IdentifiedCaller = { caller: { principal: '', permissions: [] }, isCurrent: () => true }

function checkPermission(caller: Caller, permission: Route['permission']): void {
  if (permission === 'none' || permission === 'known' || allows(caller, permission)) return
  throw notAllowed(permission, 'this address')
}

/** The answer to HEAD where a GET would begin a stream or long work: nobody would read or end it. */
function headOf({ answers = {} }: Route): Answer {
  const [type] = Object.keys(answers[200]?.content ?? {})
  return {
    status: 200,
    headers: { 'cache-control': 'no-store', ...(type && { 'content-type': type }) },
    body: null,
  }
}

/** A request whose route was found. */
type FoundRoute = Pick<Arrival, 'request' | 'incoming' | 'parts'> & { readonly query: URLSearchParams }

/** The answer to an address that no route serves, or none by this method. */
function nowhere(methods: readonly string[]): Answer {
  if (methods.length === 0) {
    const nothing =
      'There is nothing at this address; /openapi.json lists all addresses, /console/ is for people.'
    return problemAnswer(problemOf(changeError('route-not-found', nothing)))
  }
  const allow = methods.join(', ')
  const error = changeError('method-not-allowed', `This address accepts only ${allow}.`)
  return problemAnswer(problemOf(error), { allow })
}

const bodyIsGone = () =>
  operatorError(
    'body-already-read',
    'The host has read the body already, so Hence cannot read it as it was sent. Mount Hence before body parsers.',
  )

function checkGuard({ keys, authenticate, open }: ServerOptions): void {
  const isGuarded = keys !== undefined || authenticate !== undefined
  if (isGuarded !== (open === true)) return
  if (isGuarded) {
    throw changeError(
      'option-invalid',
      'With `open` everybody may do everything: leave it out, or `keys` and `authenticate`.',
    )
  }
  throw changeError(
    'keys-missing',
    'Nobody would be authenticated. Pass `keys` (the file of API keys) or `authenticate`; or for development `open: ' +
      'true`, which lets everybody on this machine do everything.',
  )
}

const saysOpen: Report = {
  level: 'warning',
  code: 'server-open',
  message:
    'There are no keys, so everybody on this machine may do everything. Other machines and proxies are refused.',
}

/** A server without authentication may be reached from this machine only. */
export function checkUnguarded(host: string): void {
  if (isLoopback(host)) return
  throw changeError(
    'listen-unsafe',
    `An open server, without keys or \`authenticate\`, would let anybody who reaches ${host} do ` +
      'everything. Set one of them, or listen on 127.0.0.1.',
  )
}
