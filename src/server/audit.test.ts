import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine } from 'hence'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { notes, serveNotes } from '../../test/server/serve.ts'

test('a caller without permissions gets heads and the proof between them; wrong sizes are refused', async (t) => {
  const { call, submit, engine } = await serveNotes(t, { partitions: 2 })
  const ask = async (path: string) => {
    const response = await call('nothing', path)
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  await submit('ada', 'write', 'n1', { owner: 'ada', number: 1, text: 'x' })
  const { body: head } = await ask('/audit/head')
  assert.deepEqual([head.format, head.logId], ['hence-head', engine.stats().logId])
  const sizes = (head.partitions as { size: number }[]).map(({ size }) => size)
  const { status, body: proof } = await ask(`/audit/consistency?from=${sizes}`)
  assert.equal(status, 200)
  assert.deepEqual([proof.format, proof.from], ['hence-consistency', sizes])
  for (const [from, code, expected] of [
    ['', 'head-sizes-invalid', 400],
    ['1', 'head-sizes-invalid', 400],
    ['1,1,1', 'head-sizes-invalid', 400],
    ['1,-1', 'head-sizes-invalid', 400],
    ['1,,1', 'head-sizes-invalid', 400],
    ['1,1e3', 'head-sizes-invalid', 400],
    [`1,${'9'.repeat(99)}`, 'head-sizes-invalid', 400],
    ['99,99', 'log-shorter-than-head', 409],
  ] as const) {
    const refused = await ask(`/audit/consistency?from=${from}`)
    assert.deepEqual([refused.status, refused.body.code], [expected, code], from)
  }
})

test('an engine without audit has no heads', async (t) => {
  const engine = await createEngine({ app: notes, data: memoryStorage(), report: () => {} })
  const web = server(engine, {
    authenticate: () => ({ principal: 'ada', permissions: [] }),
    report: () => {},
  })
  t.after(async () => {
    await web.close()
    await engine.close()
  })
  for (const path of ['/audit/head', '/audit/consistency?from=0']) {
    const response = await web.fetch(new Request(`http://localhost${path}`))
    assert.deepEqual(
      [response.status, ((await response.json()) as { code: string }).code],
      [404, 'audit-off'],
    )
  }
})
