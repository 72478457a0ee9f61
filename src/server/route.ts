import type { IncomingMessage } from 'node:http'
import type { App } from '../app/index.ts'
import { changeError } from '../failure.ts'
import type { Access } from './access.ts'
import type { Answer } from './answer.ts'
import type { AskedRequest } from './asked.ts'
import type { Caller, Permission } from './caller.ts'
import { type JsonSchema, object } from './json-schema.ts'
import type { Parameters, ValuesOf } from './parameter.ts'

/** A request as a route receives it. */
export interface Arrival<P extends Parameters = Parameters> {
  readonly request: AskedRequest
  /** Anonymous where the route takes no permission. */
  readonly caller: Caller
  /** For routes that go on after a while: whether the caller may still. */
  readonly access: Access
  /** Node's own request, where the server runs on Node's HTTP. */
  readonly incoming: IncomingMessage | undefined
  /** The parts of the path that the route leaves open, decoded. */
  readonly parts: readonly string[]
  readonly query: ValuesOf<P>
  /** The body, where the router reads and checks it. */
  readonly body: unknown
}

/** The statements of a route beside its address, permission, name and summary. */
interface Form<P extends Parameters> {
  readonly query?: P
  /** Its query is for a page in the browser, and is not read here. */
  readonly anyQuery?: true
  /** Schemas of the parts of the path that it leaves open, by name. Default: any text. */
  readonly parts?: Readonly<Record<string, JsonSchema>>
  readonly headers?: readonly Header[]
  readonly body?: Body
  /** The schema of an answer 200 in JSON; by GET also 304. Default: an object, unless there are `answers`. */
  readonly json?: JsonSchema
  /** Other answers that are no problem, by status. */
  readonly answers?: Readonly<Record<number, AnswerForm>>
  /** Statuses of problems, beside those that follow from the permission and the body. */
  readonly problems?: readonly number[]
  /** For a route that serves many names of an app: how OpenAPI describes each. */
  expand?(app: App): readonly Expansion[]
  /** Whether it sends a stream, or works for long: HEAD is answered without it. */
  readonly isLong?: true
  /** Whether a standby serves it too. */
  readonly standby?: true
  handle(arrival: Arrival<P>): Answer | Promise<Answer>
}

/** One operation of the server, stated once: the router checks requests by it, and OpenAPI describes it. */
export interface Route<P extends Parameters = Parameters> extends Form<P> {
  readonly method: 'GET' | 'POST'
  /** Below the path that the server is mounted at. `:name` stands for one part, a last `*` for one or more. */
  readonly path: string
  /** `none`: everybody, even while the server closes; `known`: every caller, shown what they may see. */
  readonly permission: 'none' | 'known' | Permission
  readonly id: string
  readonly summary: string
}

export function route<P extends Parameters>(
  address: `${Route['method']} /${string}`,
  permission: Route['permission'],
  id: string,
  summary: string,
  form: Form<P>,
): Route {
  const [method, path] = address.split(' ') as [Route['method'], string]
  const json = form.answers ? undefined : object({})
  return { method, path, permission, id, summary, json, ...form } as unknown as Route
}

export interface Header {
  readonly name: string
  readonly description: string
  readonly required?: true
  readonly schema: JsonSchema
}

export interface Body {
  readonly type: 'application/json' | 'application/x-ndjson'
  readonly schema: JsonSchema
  readonly description?: string
  /** The router reads the body and checks it; otherwise the route does. */
  readonly isChecked?: true
}

export interface AnswerForm {
  readonly description: string
  /** Media type → schema; left out for an answer without a body. */
  readonly content?: Readonly<Record<string, JsonSchema>>
  readonly headers?: Readonly<Record<string, JsonSchema>>
}

/** One name that a route serves; what it leaves out is as the route states it. */
export interface Expansion {
  /** In OpenAPI's form: `/tables/notes/{key0}`. */
  readonly path: string
  readonly id?: string
  readonly summary?: string
  readonly parts?: Readonly<Record<string, JsonSchema>>
  /** Schemas of parameters that depend on the name; undefined: it has no such parameter. */
  readonly query?: Readonly<Record<string, JsonSchema | undefined>>
  readonly body?: JsonSchema
  readonly answer?: JsonSchema
}

interface Matched {
  readonly route: Route
  readonly parts: readonly string[]
}

export class Router {
  readonly #routes: readonly Matched[]

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map((each) => ({ route: each, parts: each.path.slice(1).split('/') }))
  }

  /** The route with the parts it leaves open; or the methods that this address takes, none if there is nothing. */
  find(method: string, segments: readonly string[]): Matched | { readonly methods: readonly string[] } {
    const wanted = method === 'HEAD' ? 'GET' : method
    const methods: string[] = []
    for (const { route: each, parts } of this.#routes) {
      if (!matches(parts, segments)) continue
      if (each.method === wanted) return { route: each, parts: segments.filter((_, i) => isOpen(parts[i])) }
      methods.push(...(each.method === 'GET' ? ['GET', 'HEAD'] : [each.method]))
    }
    return { methods }
  }

  /** Whether a path that begins so may be one of the server's. */
  knows(first: string): boolean {
    return this.#routes.some(({ parts }) => parts[0] === first)
  }
}

function matches(parts: readonly string[], segments: readonly string[]): boolean {
  const isLong = parts.at(-1) === '*' && segments.length > parts.length
  if (segments.length !== parts.length && !isLong) return false
  return parts.every(
    (part, i) => part === '*' || (part.startsWith(':') ? segments[i] !== '' : part === segments[i]),
  )
}

/** A part beyond the last is one that a `*` stands for. */
function isOpen(part: string | undefined): boolean {
  return part === undefined || part === '*' || part.startsWith(':')
}

const none = new URLSearchParams()

/** The path below the mount path and the query of an address; undefined if the address is not below it. */
export function addressOf(
  url: string,
  path: string,
): { readonly segments: readonly string[]; readonly query: URLSearchParams } | undefined {
  // The path begins with the third slash of `https://host/`.
  const root = url.indexOf('/', url.indexOf('//') + 2)
  if (!url.startsWith(`${path}/`, root)) return undefined
  const start = root + path.length
  const mark = url.indexOf('?', start)
  const hash = url.indexOf('#', start)
  const end = Math.min(mark === -1 ? url.length : mark, hash === -1 ? url.length : hash)
  const query = mark === -1 ? '' : url.slice(mark + 1, hash > mark ? hash : undefined)
  try {
    const segments = url.slice(start + 1, end).split('/')
    if (!url.includes('%', start) && query === '') return { segments, query: none }
    // `URLSearchParams` would replace what is not UTF-8.
    decodeURIComponent(query)
    return { segments: segments.map(decodeURIComponent), query: new URLSearchParams(query) }
  } catch {
    throw changeError('url-invalid', 'The address is not percent-encoded UTF-8.')
  }
}
