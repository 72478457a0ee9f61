import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import { callers, notes, serveNotes } from '../../test/server/serve.ts'
import { Alarms } from '../report.ts'
import { Activity } from './activity.ts'
import { BodyReader } from './body.ts'
import { limitsDefault } from './limits.ts'
import { Metrics } from './metrics.ts'
import { routes } from './routes.ts'
import { RowRules } from './row-rules.ts'

// Every route × every caller. There must be cases for every route of the server, so a new route without any
// fails.

type Who = keyof typeof callers | 'nobody'
const everybody: readonly Who[] = ['nobody', ...Object.keys(callers)]

interface Case {
  readonly path: string
  readonly body?: string
  readonly type?: string
  /** The callers that get the answer; others get 403, and a request without authorization 401. */
  readonly allowed: readonly Who[] | 'all known' | 'all'
  readonly status?: number
  /** The status for allowed callers, if the case asks for something that does not exist. */
  readonly answered?: number
}

const input = (n: number) => JSON.stringify({ owner: 'ada', number: n, text: 'x' })
const line = (type: string) =>
  `${JSON.stringify({ requestId: `line-${type}`, type, input: { from: 'a', to: 'b', text: '' } })}\n`

const cases: Readonly<Record<string, readonly Case[]>> = {
  'POST /requests/:type': [
    { path: '/requests/write', body: input(9), allowed: ['ada', 'admin'] },
    {
      path: '/requests/send',
      body: '{"from":"a","to":"b","text":""}',
      allowed: ['ada', 'bob', 'admin'],
    },
    {
      // Rejected: there is no such effect.
      path: '/requests/hence:redrive',
      body: '{"effect":"none","key":"k","reason":"mended"}',
      allowed: ['operator', 'admin'],
    },
  ],
  // Each line has its own answer; the last test checks permissions line by line.
  'POST /requests': [
    { path: '/requests', type: 'application/x-ndjson', body: line('send'), allowed: 'all known' },
  ],
  'GET /requests/:id': [
    { path: '/requests/seed-1?principal=ada', allowed: ['ada', 'reader', 'admin'] },
    { path: '/requests/seed-1', allowed: ['ada'], status: 404 },
  ],
  'GET /requests/:id/receipt': [
    { path: '/requests/seed-1/receipt?principal=ada', allowed: ['ada', 'reader', 'admin'] },
    { path: '/requests/seed-1/receipt', allowed: ['ada'], status: 404 },
  ],
  'GET /tables/:table': [
    { path: '/tables/totals', allowed: ['reader', 'admin'] },
    { path: '/tables/notes', allowed: 'all known' },
    { path: '/tables/inbox', allowed: 'all known' },
    { path: '/tables/moods', allowed: ['reader', 'admin'] },
    { path: '/tables/notes?index=byStars', allowed: ['reader', 'admin'] },
    { path: '/tables/hence.victims', allowed: ['operator', 'admin'] },
    { path: '/tables/hence.violations', allowed: ['operator', 'admin'] },
    { path: '/tables/hence.waiters', allowed: ['operator', 'admin'] },
  ],
  'GET /tables/:table/*': [
    { path: '/tables/totals/all', allowed: ['reader', 'admin'] },
    { path: '/tables/notes/ada/1', allowed: ['ada', 'reader', 'admin'], status: 404 },
  ],
  'GET /changes': [
    { path: '/changes?table=totals', allowed: ['reader', 'admin'] },
    { path: '/changes?table=notes', allowed: 'all known' },
    { path: '/changes?table=moods', allowed: ['reader', 'admin'] },
    { path: '/changes?table=notes&table=totals', allowed: ['reader', 'admin'] },
    { path: '/changes?table=hence.effects', allowed: ['operator', 'admin'] },
    { path: '/changes?table=hence.effects&table=totals', allowed: ['admin'] },
  ],
  'GET /changes/:table/*': [
    { path: '/changes/totals/all', allowed: ['reader', 'admin'] },
    { path: '/changes/notes/ada/1', allowed: 'all known' },
    { path: '/changes/moods/ada', allowed: 'all known' },
    { path: '/changes/hence.violations/k/v', allowed: ['operator', 'admin'] },
  ],
  'GET /violations/:key/:id': [{ path: '/violations/k/none', allowed: ['operator', 'admin'], answered: 404 }],
  'POST /previews/:type': [
    {
      path: '/previews/hence:redrive',
      body: '{"effect":"none","key":"k","reason":"mended"}',
      allowed: ['operator', 'admin'],
    },
    { path: '/previews/write', body: input(9), allowed: ['operator', 'admin'], answered: 404 },
  ],
  'GET /effects': [{ path: '/effects?state=dead', allowed: ['operator', 'admin'] }],
  'GET /effects/:id': [{ path: '/effects/none', allowed: ['operator', 'admin'], answered: 404 }],
  'GET /log': [{ path: '/log?partition=0', allowed: ['reader', 'admin'] }],
  'GET /log/:token': [
    { path: '/log/0:0', allowed: ['reader', 'admin'] },
    { path: '/log/0:99', allowed: ['reader', 'admin'], answered: 404 },
  ],
  'GET /status': [{ path: '/status', allowed: ['operator', 'admin'] }],
  'GET /series': [{ path: '/series?every=minute', allowed: ['operator', 'admin'] }],
  // The engine of this test keeps its state in memory.
  'GET /state': [{ path: '/state', allowed: ['admin'], answered: 404 }],
  'GET /me': [{ path: '/me', allowed: 'all known' }],
  'GET /console': [{ path: '/console', allowed: 'all', answered: 308 }],
  // Whether it was built or not, nobody needs a permission.
  'GET /console/*': [{ path: '/console/no/file', allowed: 'all', answered: 404 }],
  'GET /reprocess': [{ path: '/reprocess', allowed: ['admin'] }],
  'POST /reprocess': [
    { path: '/reprocess', body: `{"version":"${'0'.repeat(64)}"}`, allowed: ['admin'], answered: 422 },
  ],
  'POST /reprocess/pause': [{ path: '/reprocess/pause', body: '{}', allowed: ['admin'], answered: 404 }],
  'POST /reprocess/resume': [{ path: '/reprocess/resume', body: '{}', allowed: ['admin'], answered: 404 }],
  'POST /reprocess/discard': [{ path: '/reprocess/discard', body: '{}', allowed: ['admin'], answered: 404 }],
  'GET /reprocess/diff': [{ path: '/reprocess/diff', allowed: ['admin'], answered: 404 }],
  'POST /reprocess/promote': [
    { path: '/reprocess/promote', body: `{"diff":"${'0'.repeat(64)}"}`, allowed: ['admin'], answered: 404 },
  ],
  'GET /audit/head': [{ path: '/audit/head', allowed: 'all known' }],
  'GET /audit/consistency': [{ path: '/audit/consistency?from=1', allowed: 'all known' }],
  'GET /openapi.json': [{ path: '/openapi.json', allowed: 'all known' }],
  'GET /metrics': [{ path: '/metrics', allowed: ['operator', 'admin'] }],
  'GET /livez': [{ path: '/livez', allowed: 'all' }],
  'GET /readyz': [{ path: '/readyz', allowed: 'all' }],
}

test('every route has cases', async () => {
  const engine = await createEngine({ app: notes, data: memoryStorage() })
  const serving = {
    engine: engine as never,
    standby: undefined,
    path: '',
    limits: limitsDefault,
    clock: { now: () => 0 },
    report: () => {},
    alarms: new Alarms(),
    bodies: new BodyReader(limitsDefault),
    rules: new RowRules(engine, () => {}),
    activity: new Activity(),
    closing: new AbortController().signal,
  }
  const list = routes(serving, new Metrics()).map(({ method, path }) => `${method} ${path}`)
  assert.deepEqual(list.sort(), Object.keys(cases).sort())
  await engine.close()
})

for (const [route, all] of Object.entries(cases)) {
  test(`which callers may use ${route}`, async (t) => {
    const { call, submit } = await serveNotes(t)
    assert.equal((await submit('ada', 'write', 'seed-1', input(1))).status, 200)
    for (const { path, body, type = 'application/json', allowed, status = 403, answered } of all) {
      for (const who of everybody) {
        const response = await call(who === 'nobody' ? undefined : (who as string), path, {
          ...(body !== undefined && { method: 'POST', body }),
          redirect: 'manual',
          headers: { 'content-type': type, 'idempotency-key': `${path}-${who}` },
        })
        await response.body?.cancel()
        const may =
          allowed === 'all' || (who !== 'nobody' && (allowed === 'all known' || allowed.includes(who)))
        // The note of an earlier caller may exist already: a rejection shows that this caller was allowed
        // too.
        const expected = may
          ? answered === undefined
            ? [200, 409]
            : [answered]
          : [who === 'nobody' ? 401 : status]
        assert.ok(expected.includes(response.status), `${path} as ${who}: ${response.status}`)
        if (response.status === 401) assert.equal(response.headers.get('www-authenticate'), 'Bearer')
      }
    }
  })
}

test('permissions are checked for each line of a batch', async (t) => {
  const { call } = await serveNotes(t)
  const sent = await call('bob', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: line('send') + line('feel') + line('send').replace('line-send', 'line-2'),
  })
  const told = (await sent.text())
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text))
  assert.deepEqual(
    told.map(({ requestId, status, problem }) => [requestId, status, problem?.status]),
    [
      ['line-send', 'accepted', undefined],
      ['line-feel', 'problem', 403],
      ['line-2', 'accepted', undefined],
    ],
  )
})

test('every route refuses unknown and repeated query parameters', async (t) => {
  const { call } = await serveNotes(t)
  for (const [route, [{ path, body, type = 'application/json' }]] of Object.entries(cases) as [
    string,
    readonly [Case],
  ][]) {
    // The query of a view of the console is for the page.
    if (route === 'GET /console/*') continue
    const ask = async (query: string) => {
      const response = await call('admin', `${path.split('?')[0]}?${query}`, {
        ...(body !== undefined && { method: 'POST', body }),
        headers: { 'content-type': type, 'idempotency-key': 'id' },
      })
      const { code } = (await response.json()) as { code: string }
      assert.deepEqual([response.status, code], [400, 'query-invalid'], `${route} ?${query}`)
    }
    await ask('nope=1')
    await ask('__proto__=1')
  }
  for (const query of ['limit=1&limit=2', 'index=byStars&index=byStars', 'cursor=a&cursor=b']) {
    assert.equal((await call('admin', `/tables/notes?${query}`)).status, 400, query)
  }
  assert.equal((await call('admin', '/requests/x?principal=ada&principal=bob')).status, 400)
})

test('OpenAPI describes every route, and nothing else', async (t) => {
  const { call, engine } = await serveNotes(t)
  const document = (await (await call('nothing', '/openapi.json')).json()) as {
    paths: Record<string, Record<string, unknown>>
  }
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  const ofOperators = ['hence:resolve-violation', 'hence:redrive']
  const names = [...engine.app.requests.keys(), ...ofOperators]
  const tables: { name: string; length: number }[] = [...engine.app.tables.values()].map(
    ({ name, parts }) => ({
      name,
      length: parts.length + 1,
    }),
  )
  tables.push({ name: 'hence.victims', length: 3 })
  tables.push({ name: 'hence.violations', length: 2 }, { name: 'hence.waiters', length: 3 })
  const expected = Object.keys(cases).flatMap((route) => {
    if (route.startsWith('POST /previews')) return ofOperators.map((name) => route.replace(':type', name))
    if (route.endsWith(':type')) return names.map((name) => route.replace(':type', name))
    if (route.endsWith(':table')) return tables.map(({ name }) => route.replace(':table', name))
    if (route.startsWith('GET /console/')) return ['GET /console/{file}']
    if (!route.endsWith('*')) return [route.replace(/:(\w+)/g, '{$1}')]
    return tables.map(({ name, length }) => {
      const key = Array.from({ length }, (_, i) => `{key${i}}`).join('/')
      return route.replace(':table/*', `${name}/${key}`)
    })
  })
  assert.deepEqual(described.sort(), expected.sort())
})
