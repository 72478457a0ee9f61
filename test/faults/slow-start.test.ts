import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import { doctor } from 'hence/offline'
import type { Report } from '../../src/report.ts'
import type poison from '../apps/poison.ts'
import { freePort } from '../free-port.ts'
import { Running, started } from '../hence-process.ts'

// A start that derives for seconds: it listens at once, says how far it is, and stops on SIGTERM.

const app = fileURLToPath(import.meta.resolve('../apps/poison.ts'))

/** Waits for the first answer of a server, and returns it. */
async function firstAnswer(url: string): Promise<Response> {
  for (;;) {
    const response = await fetch(url).catch(() => undefined)
    if (response !== undefined) return response
  }
}

test('a start that derives listens at once, says how far it is, and stops on SIGTERM', async () => {
  const data = await mkdtemp(join(tmpdir(), 'hence-slow-'))
  try {
    const engine = await createEngine<typeof poison>({ app, data, report: () => {} })
    // Each takes about a tenth of a second.
    for (let i = 0; i < 30; i++)
      await engine.submit('walk', { jar: 'a', step: 1e-7 }, { requestId: `walk-${i}` })
    const digest = await engine.digest()
    await engine.close()
    await rm(join(data, 'state'), { recursive: true })

    const port = await freePort()
    const args = ['start', app, '--data', data, '--port', `${port}`, '--open']
    const url = `http://127.0.0.1:${port}`
    const first = new Running(args)
    const answer = await firstAnswer(`${url}/readyz`)
    assert.equal(answer.status, 503)
    assert.equal(answer.headers.get('retry-after'), '1')
    const { code, detail } = (await answer.json()) as { code: string; detail: string }
    assert.equal(code, 'engine-starting')
    assert.match(detail, /\d+ of 3\d records are derived/)
    assert.equal((await fetch(`${url}/livez`)).status, 200)
    const sent = await fetch(`${url}/requests/count`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': '"early"' },
      body: '{"jar":"a"}',
    })
    assert.equal(sent.status, 503)
    // It ends without deriving the rest first.
    assert.equal(await first.stop('SIGTERM'), 0, first.errors)
    assert.ok(!first.lines.some((line) => /listens on/.test(line)))

    const second = new Running(args)
    await firstAnswer(`${url}/readyz`)
    const seen = new Set<number>()
    while (!seen.has(200)) seen.add((await fetch(`${url}/readyz`)).status)
    assert.deepEqual([...seen], [503, 200])
    await second.line(/listens on/)
    assert.equal(await second.stop('SIGTERM'), 0, second.errors)

    const after = await createEngine<typeof poison>({ app, data, report: () => {} })
    assert.equal(await after.digest(), digest)
    await after.close()
  } finally {
    await rm(data, { recursive: true })
  }
})

for (const command of ['start', 'dev'] as const)
  test(`SIGTERM leaves a record that does not end to the next start, ${command}`, () => leaves(command))

/** In service, and in a start. */
async function leaves(command: 'start' | 'dev'): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'hence-slow-'))
  const rulings = async () => {
    const { findings } = await doctor({ data })
    return findings.filter(({ code }) => code === 'derivation-ruled').length
  }
  try {
    const serving = await started([app, '--data', data], {}, command)
    const post = (type: string, id: string, input: object) =>
      fetch(`${serving.url}/requests/${type}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': `"${id}"` },
        body: JSON.stringify(input),
      })
    assert.equal((await post('count', 'first', { jar: 'a' })).status, 200)
    const waiting = post('walk', 'endless', { jar: 'a', step: 0 })
    await serving.error(/has been deriving/)
    assert.equal(await serving.stop('SIGTERM'), 0, serving.errors)
    const answer = await waiting
    assert.equal(answer.status, 503)
    assert.equal(((await answer.json()) as { code: string }).code, 'engine-closed')
    assert.equal(await rulings(), 0)

    const open = command === 'start' ? ['--open'] : []
    const starting = new Running([command, app, '--data', data, '--port', '0', ...open])
    await starting.error(/has been deriving/)
    assert.equal(await starting.stop('SIGTERM'), 0, starting.errors)
    assert.equal(await rulings(), 0)
    // Neither process has died.
    assert.ok(!(await readdir(join(data, 'state'))).includes('run.json'))

    const reports: Report[] = []
    const report = (each: Report) => void reports.push(each)
    const engine = await createEngine<typeof poison>({ app, data, derivationMs: 400, report })
    const reply = await engine.submit('walk', { jar: 'a', step: 0 }, { requestId: 'endless' })
    assert.equal(reply.status === 'failed' && reply.code, 'derivation-too-long')
    assert.deepEqual(await engine.get('counts', ['a']), { n: 1 })
    await engine.close()
    assert.equal(await rulings(), 1)
    assert.ok(!reports.some(({ code }) => code === 'derivation-suspected'))
  } finally {
    await rm(data, { recursive: true })
  }
}
