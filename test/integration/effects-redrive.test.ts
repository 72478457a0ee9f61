import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, HenceError } from 'hence'
import type * as made from '../apps/charges.ts'
import { appsOf } from '../apps.ts'
import { hence } from '../hence-process.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/charges.ts'))

test('all dead effects of a type are redriven, beyond one page, so many of each key and so many a second', async () => {
  const home = await mkdtemp(join(tmpdir(), 'hence-redrive-'))
  const data = join(home, 'data')
  try {
    const refuse = () => Promise.reject(new HenceError('effect-refused', 'change', 'no'))
    const handlers = { charge: refuse, note: { deliver: refuse, concurrency: 1_000 } }
    const engine = await createEngine({ app: await apps.shop(), data, handlers, report: () => {} })
    for (const order of ['a', 'b', 'c'])
      await engine.submit('remark', { order, times: 400 }, { requestId: order })
    await engine.submit('place', { order: 'd', cents: 1 }, { requestId: 'd' })
    while ((await engine.effects.list({ limit: 1 })).length > 0) await new Promise(setImmediate)
    await engine.close()

    const redrive = (...more: string[]) =>
      hence(['effects', 'redrive', '--type', 'note', '--data', data, '--reason', 'it is back', ...more])
    const fast = ['--per-second', '1000000']
    const dry = await redrive('--dry-run')
    assert.equal(dry.stdout.trim().split('\n').length, 1_200)
    const some = await redrive('--per-key', '10', ...fast)
    assert.match(some.stderr, /30 redriven, 0 refused, 1170 left by --per-key\./)
    assert.equal(some.code, 0)
    const startedAt = performance.now()
    const few = await redrive('--per-key', '5', '--per-second', '20')
    assert.match(few.stderr, /15 redriven, 0 refused, 1155 left/)
    // The first goes at once.
    assert.ok(performance.now() - startedAt >= (14 * 1_000) / 20)
    const rest = await redrive(...fast)
    assert.match(rest.stderr, /1155 redriven, 0 refused\./)
    assert.equal(rest.stdout.trim().split('\n').length, 1_155)
    const none = await redrive()
    assert.match(none.stderr, /There are no dead effects/)
    const pending = await hence(['effects', 'list', '--limit', '5000', '--data', data])
    assert.equal(pending.stdout.trim().split('\n').length, 1_200)
  } finally {
    await rm(home, { recursive: true })
  }
})
