import type { TestContext } from 'node:test'
import { createEngine, type Engine, type Report } from 'hence'
import { type Caller, type ServerOptions, server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { appsOf } from '../apps.ts'
import type * as made from './notes.ts'

/** The bundle of the app. */
export const notes = await appsOf<typeof made>(import.meta.resolve('./notes.ts')).default()

/** The callers of the tests, by the token they send: `Authorization: Test NAME`. */
export const callers: Readonly<Record<string, Caller>> = {
  ada: { principal: 'ada', permissions: ['submit'] },
  bob: { principal: 'bob', permissions: ['submit:send'] },
  reader: { principal: 'reader', permissions: ['read'] },
  operator: { principal: 'operator', permissions: ['operate'] },
  admin: { principal: 'admin', permissions: ['admin'] },
  nothing: { principal: 'nothing', permissions: [] },
}

export interface Served {
  readonly engine: Engine<typeof made.default>
  readonly url: string
  readonly reports: Report[]
  /** As one of `callers`; undefined: without authorization. */
  call(who: string | undefined, path: string, init?: RequestInit): Promise<Response>
  submit(
    who: string | undefined,
    type: string,
    id: string | undefined,
    input: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Response>
  close(): Promise<void>
}

/** Opens an engine in memory and serves it on a local port until the test ends. */
export async function serveNotes(
  t: TestContext,
  options: ServerOptions & {
    readonly partitions?: number
    readonly queueBytesMax?: number
    /** Nothing that is sent becomes durable before this resolves. */
    readonly held?: Promise<void>
  } = {},
): Promise<Served> {
  const { partitions = 1, queueBytesMax, held, ...rest } = options
  const reports: Report[] = []
  const report = (told: Report) => void reports.push(told)
  const data = memoryStorage({ partitions })
  let isOpen = false
  if (held !== undefined) {
    const append = data.log.append.bind(data.log)
    data.log.append = async (...args) => {
      if (isOpen) await held
      return append(...args)
    }
  }
  const engine = await createEngine({
    app: notes,
    data,
    report,
    audit: true,
    ...(queueBytesMax !== undefined && { queueBytesMax }),
  })
  isOpen = true
  const { url, call, close } = await serve(t, engine, callers, { report, ...rest })
  return {
    engine,
    url,
    reports,
    call,
    submit: (who, type, id, input, headers = {}) =>
      call(who, `/requests/${type}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(id !== undefined && { 'idempotency-key': id }),
          ...headers,
        },
        body: typeof input === 'string' ? input : JSON.stringify(input),
      }),
    close,
  }
}

/** Serves an engine on a local port, to callers who send `Authorization: Test NAME`, until the test ends. */
export async function serve(
  t: TestContext,
  engine: { close(): Promise<void> },
  callers: Readonly<Record<string, Caller>>,
  options: ServerOptions = {},
): Promise<Pick<Served, 'url' | 'call' | 'close'>> {
  const web = server(engine as never, {
    authenticate: (request) => {
      const name = /^Test (\w+)$/.exec(request.headers.get('authorization') ?? '')?.[1]
      return name === undefined ? undefined : callers[name]
    },
    report: () => {},
    ...options,
  })
  const { url } = await web.listen()
  const close = async () => {
    await web.close()
    await engine.close()
  }
  t.after(close)
  return {
    url,
    call: (who, path, init = {}) =>
      fetch(url + path, {
        ...init,
        headers: { ...(who !== undefined && { authorization: `Test ${who}` }), ...init.headers },
      }),
    close,
  }
}
