import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine, type WithViews } from 'hence'
import { connect } from 'hence/client'
import { postgresSink } from 'hence/postgres'
import { memoryStorage } from 'hence/testing'
import type { sales } from '../apps/sales.ts'
import type views from '../apps/sales-views.ts'
import { type Ended, hence, started } from '../hence-process.ts'
import { serve } from '../server/serve.ts'

// A view is read wherever a table is: over HTTP and by a client, with row rules, and by the command line.

type Sales = WithViews<typeof sales, typeof views>

const pathOf = (name: string) => fileURLToPath(import.meta.resolve(`../apps/${name}.ts`))
/** A body of an answer. */
type Json = Record<string, never> & { readonly rows?: unknown; readonly paths?: never }
const lines = ({ stdout }: Ended) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

test('a view over HTTP: rows after a token, pages, row rules, OpenAPI, metrics, and its changes', async (t) => {
  const engine = await createEngine<Sales>({
    app: pathOf('sales'),
    views: [pathOf('sales-views')],
    data: memoryStorage({ partitions: 2 }),
    report: () => {},
  })
  const callers = {
    nobody: { principal: 'nobody', permissions: [] },
    admin: { principal: 'admin', permissions: ['admin'] },
  } as const
  const { call } = await serve(t, engine, callers, { report: () => {} })
  let token = ''
  for (const [i, sku] of ['mug', 'lamp', 'mug'].entries()) {
    const input = { order: `o${i}`, sku, customer: 'ada', cents: 100 * (i + 1) }
    token = (await engine.submit('buy', input, { requestId: `r${i}` })).token
  }
  const json = async (who: string, path: string) => {
    const response = await call(who, path)
    return [response.status, (await response.json()) as Json] as const
  }
  assert.deepEqual(await json('nobody', `/tables/by-sku/mug?after=${token}`), [
    200,
    { key: ['mug'], value: { orders: 2, cents: 400 } },
  ])
  const [, first] = await json('nobody', '/tables/by-sku?index=byCents&reverse=true&limit=1')
  assert.deepEqual(first.rows, [{ key: ['mug'], value: { orders: 2, cents: 400 } }])
  const [, second] = await json(
    'nobody',
    `/tables/by-sku?index=byCents&reverse=true&limit=1&cursor=${first.cursor}`,
  )
  assert.deepEqual(second.rows, [{ key: ['lamp'], value: { orders: 1, cents: 200 } }])
  // Without a rule, only with the permission `read`.
  assert.equal((await call('nobody', '/tables/journal')).status, 403)
  assert.equal((await call('admin', '/tables/journal')).status, 200)
  const [, api] = await json('admin', '/openapi.json')
  assert.ok(api.paths!['/tables/by-sku/{key0}'])
  assert.match(await (await call('admin', '/metrics')).text(), /hence_view_failed\{view="by-sku"\} 0/)
  const [status, problem] = await json('admin', '/changes?table=by-sku&table=orders')
  assert.deepEqual([status, problem.code], [400, 'query-invalid'])
  // A watch follows the rows, resumes, and hides those of others.
  assert.equal((await call('nobody', '/changes?table=journal')).status, 403)
  const reader = (await call('nobody', '/changes?table=by-sku')).body!.getReader()
  const streamed = async (until: RegExp) => {
    let text = ''
    while (!until.test(text)) text += new TextDecoder().decode((await reader.read()).value)
    return text
  }
  const [, position] = /id: (.+)\nevent: open/.exec(await streamed(/open\ndata: {}\n\n/))!
  assert.match(position!, /^\d+\.\d+@[0-9a-f]{12}\.0$/)
  await engine.submit('cancel', { order: 'o2' }, { requestId: 'r9' })
  assert.match(
    await streamed(/event: changes\n.*\n\n/),
    /"table":"by-sku","key":\["mug"\],"before":{"orders":2,"cents":400},"after":{"orders":1,"cents":100}/,
  )
  await reader.cancel()
  const again = await call('nobody', `/changes?table=by-sku&from=${position}`)
  const resumed = again.body!.getReader()
  let text = ''
  while (!text.includes('"after":')) text += new TextDecoder().decode((await resumed.read()).value)
  assert.match(text, /"orders":1,"cents":100/)
  await resumed.cancel()
  const sink = {
    engine,
    connection: {},
    tables: ['by-sku', 'orders'],
    schema: 'mirror',
    name: 'mirror',
  } as const
  assert.throws(() => postgresSink(sink), { code: 'option-invalid' })
})

test('views by the command line: a server, its data directory at rest, and a view that has failed', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-views-cli-'))
  t.after(() => rm(home, { recursive: true }))
  const data = join(home, 'data')
  const start = (...modules: string[]) =>
    started([pathOf('sales'), '--data', data, ...modules.flatMap((each) => ['--views', pathOf(each)])])
  const server = await start('sales-views', 'broken-views')
  const client = connect<Sales>(server.url)
  for (let i = 0; i < 4; i++) {
    const { token } = await client.submit(
      'buy',
      { order: `o${i}`, sku: 'mug', customer: 'ada', cents: 1 },
      { requestId: `r${i}` },
    )
    assert.deepEqual(await client.get('by-sku', ['mug'], { after: token }), { orders: i + 1, cents: i + 1 })
  }
  await client.close()
  const shown = await hence(['views', '--url', server.url, '--json'])
  assert.equal(shown.code, 6)
  assert.deepEqual(
    lines(shown).map(({ name, state }) => `${name} ${state}`),
    [
      'by-sku following',
      'journal following',
      'throws failed',
      'endless failed',
      'impure failed',
      'counts following',
    ],
  )
  await server.stop()
  const doctor = await hence(['doctor', '--data', data])
  assert.equal(doctor.code, 0, doctor.stdout + doctor.stderr)
  assert.match(doctor.stdout + doctor.stderr, /view "throws" stopped at record \d+ of partition 0/)
  const row = await hence(['table', 'get', 'by-sku', 'mug', '--data', data, '--json'])
  assert.deepEqual(lines(row), [{ key: ['mug'], value: { orders: 4, cents: 4 } }], row.stderr)
  // A view that no module defines is dropped, with its files.
  const again = await start('sales-views')
  await again.stop()
  const left = (await readdir(join(data, 'state'))).filter((name) => name.startsWith('view'))
  assert.deepEqual(left.sort(), ['views.json', 'views.sqlite'])
  const verified = await hence(['verify', '--data', data])
  assert.equal(verified.code, 0, verified.stdout + verified.stderr)
})
