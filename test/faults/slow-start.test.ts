import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import type poison from '../apps/poison.ts'
import { freePort } from '../free-port.ts'
import { Running } from '../hence-process.ts'

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
