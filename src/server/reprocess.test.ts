import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { createEngine, type Report } from 'hence'
import { type Caller, server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import type * as made from '../../test/apps/book.ts'
import { appsOf } from '../../test/apps.ts'
import { serve } from '../../test/server/serve.ts'
import { codeName } from '../storage/storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/book.ts'))
const before = await apps.before()
const after = await apps.after()

// Reprocessing over HTTP; after a promotion every answer is that of the live app.

const callers: Readonly<Record<string, Caller>> = {
  ada: { principal: 'ada', permissions: [] },
  root: { principal: 'root', permissions: ['admin'] },
}

async function served(t: TestContext) {
  const version = after.hash
  const data = memoryStorage()
  await data.keep(codeName(version), after.code)
  const engine = await createEngine({ app: before, data, report: () => {} })
  const { call } = await serve(t, engine, callers)
  const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
    call('root', path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    })
  return { engine, version, call, post }
}

async function codeOf(response: Response): Promise<[status: number, code: string]> {
  return [response.status, ((await response.json()) as { code: string }).code]
}

test('a candidate is started, compared and promoted once, and the server answers with the new app', async (t) => {
  const { engine, version, call, post } = await served(t)
  for (const name of ['ada', 'bob']) {
    await engine.submit('write', { name, n: 1 }, { requestId: `w-${name}` })
  }
  const info = async () =>
    ((await (await call('ada', '/openapi.json')).json()) as { paths: Record<string, unknown> }).paths
  assert.ok(!('/tables/notes' in (await info())))
  assert.deepEqual(await codeOf(await call('ada', '/tables/notes')), [404, 'unknown-table'])

  assert.equal((await post('/reprocess', { version, share: 1 })).status, 200)
  await engine.reprocessing.caughtUp()
  const whole = await call('root', '/reprocess/diff', { headers: { accept: 'application/x-ndjson' } })
  const lines = await whole.text()
  const hash = createHash('sha256').update(lines).digest('hex')
  assert.equal(whole.headers.get('hence-diff'), hash)
  assert.equal(lines.trim().split('\n').length, 4, 'two sums are others, two notes are new')
  const summary = (await (await call('root', '/reprocess/diff?samples=1')).json()) as {
    sha256: string
    differences: number
    tables: { samples: unknown[] }[]
  }
  assert.deepEqual([summary.sha256, summary.differences], [hash, 4])
  assert.deepEqual(
    summary.tables.map(({ samples }) => samples.length),
    [1, 1],
  )

  const changes = await call('root', '/changes')
  const promote = () => post('/reprocess/promote', { diff: hash, note: 'twice' }, { 'idempotency-key': 'p' })
  const first = await promote()
  assert.deepEqual([first.status, first.headers.get('idempotent-replayed')], [200, null])
  const again = await promote()
  assert.deepEqual([again.status, again.headers.get('idempotent-replayed')], [200, 'true'])

  // A promotion does not report changed rows one by one: streams end, and their readers read again.
  assert.match(await changes.text(), /event: problem\ndata: .*"position-unknown"/)
  assert.ok('/tables/notes' in (await info()), 'the document is that of the new app')
  const seen = (await (await call('ada', '/tables/notes')).json()) as { rows: unknown[] }
  assert.deepEqual(seen.rows, [{ key: ['ada'], value: { n: 1 } }], 'and so are tables and their rules')
  const generations = (await (await call('root', '/reprocess')).json()) as {
    live: { generation: number; version: string }
    candidate: { wasLive: boolean }
    history: { type: string; principal: string; note: string }[]
  }
  assert.deepEqual(generations.live, { generation: 1, version })
  assert.equal(generations.candidate.wasLive, true)
  const { type, principal, note } = generations.history.at(-1)!
  assert.deepEqual([type, principal, note], ['promotion', 'root', 'twice'])
  assert.equal((await post('/reprocess/discard', {})).status, 204)
  assert.deepEqual(await codeOf(await post('/reprocess/pause', {})), [404, 'reprocess-none'])
})

test('a client that goes away during a diff raises no alarm', async (t) => {
  const { engine, version, post } = await served(t)
  await engine.submit('write', { name: 'ada', n: 1 }, { requestId: 'w' })
  assert.equal((await post('/reprocess', { version, share: 1 })).status, 200)
  await engine.reprocessing.caughtUp()
  const reports: Report[] = []
  const web = server(engine as never, {
    authenticate: () => callers['root'],
    report: (each) => reports.push(each),
  })
  const signal = AbortSignal.abort('gone')
  const answer = await web.fetch(new Request('http://localhost/reprocess/diff', { signal }))
  assert.equal(answer.status, 503)
  assert.deepEqual(reports, [])
  await web.close()
})

test('invalid requests are refused, and nothing starts', async (t) => {
  const { engine, version, call, post } = await served(t)
  const diff = '0'.repeat(64)
  for (const body of [{}, [], null, { version: '../keys' }, { version, share: 0 }, { version, more: 1 }]) {
    assert.deepEqual(
      await codeOf(await post('/reprocess', body)),
      [400, 'body-invalid'],
      JSON.stringify(body),
    )
  }
  assert.deepEqual(await codeOf(await post('/reprocess', { version: diff })), [422, 'code-not-kept'])
  assert.deepEqual(await codeOf(await post('/reprocess/pause', { now: true })), [400, 'body-invalid'])
  // A page of another origin could send this with a user's cookies.
  const plain = await call('root', '/reprocess/discard', { method: 'POST', body: '{}' })
  assert.deepEqual(await codeOf(plain), [415, 'media-type-unsupported'])
  assert.deepEqual(await codeOf(await call('root', '/reprocess/diff?samples=-1')), [400, 'query-invalid'])
  assert.deepEqual(await codeOf(await post('/reprocess/promote', { diff })), [400, 'request-id-missing'])
  assert.equal(await engine.reprocessing.status(), undefined)

  assert.equal((await post('/reprocess', { version })).status, 200)
  await engine.reprocessing.caughtUp()
  const unknown = await post('/reprocess/promote', { diff }, { 'idempotency-key': 'p' })
  assert.deepEqual(await codeOf(unknown), [409, 'diff-unknown'])
  assert.equal((await post('/reprocess/pause', {})).status, 200)
  assert.deepEqual(await codeOf(await call('root', '/reprocess/diff')), [409, 'reprocess-paused'])
})
