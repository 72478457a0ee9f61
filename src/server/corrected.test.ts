import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { connect } from 'hence/client'
import { memoryStorage } from 'hence/testing'
import type * as made from '../../test/apps/corrected-orders.ts'
import { appsOf } from '../../test/apps.ts'
import { serve } from '../../test/server/serve.ts'

const { orders } = appsOf<typeof made>(import.meta.resolve('../../test/apps/corrected-orders.ts'))

test('a retry of a request that promoted code decides otherwise gets the first outcome and the corrected one', async (t) => {
  const [first, upper] = [await orders('first'), await orders('upper')]
  const engine = await createEngine({ app: first, data: memoryStorage(), report: () => {} })
  const { url, call } = await serve(t, engine, { admin: { principal: '', permissions: ['admin'] } })
  const place = (name: unknown, requestId: string) =>
    engine.submit('place', { name } as never, { requestId }) as Promise<object>
  const before = await place('a', 'r1')
  await place(7, 'r2')
  await engine.reprocessing.start({ app: upper })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  await place('b', 'r3')

  const corrected = { status: 'accepted', value: { text: 'A' } }
  const retried = { ...before, replayed: true, corrected }
  assert.deepEqual(await place('a', 'r1'), retried)
  const failed = (await engine.submit('place', { name: 7 } as never, { requestId: 'r2' })) as {
    corrected?: { status: string }
  }
  assert.equal(failed.corrected?.status, 'failed')
  assert.ok(!('corrected' in (await place('b', 'r3'))), 'what the live code decided first is not corrected')

  const answer = await call('admin', '/requests/place', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': 'r1' },
    body: '{"name":"a"}',
  })
  assert.deepEqual([answer.status, await answer.json()], [200, retried])
  const lines = await call('admin', '/requests', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: '{"requestId":"r1","type":"place","input":{"name":"a"}}\n',
  })
  assert.deepEqual(JSON.parse(await lines.text()), retried)

  const service = connect<typeof engine.app>(url, { headers: { authorization: 'Test admin' } } as never)
  t.after(() => service.close())
  assert.deepEqual(await service.submit('place', { name: 'a' } as never, { requestId: 'r1' }), retried)
})
