import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { freePort } from '../free-port.ts'
import { hence, Running } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import { ManyClients } from './many-clients.ts'

// A deploy is a hand-over: the new process waits for the directory; the old one is asked to stop, drains, and
// releases it. The clients never stop sending, and see only retries.

const deploys = Number(process.env['HENCE_DEPLOYS'] ?? 4)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const clients = 64

test(`${deploys} deploys under ${clients} clients: nothing is lost or done twice (HENCE_SEED=${seed})`, {
  timeout: 3_600_000,
}, async (t) => {
  const random = randomFrom(seed)
  const home = await mkdtemp(join(tmpdir(), 'hence-deploy-'))
  const app = fileURLToPath(import.meta.resolve('./till.ts'))
  const data = join(home, 'data')
  const port = await freePort()
  const start = () => {
    return new Running([
      'start',
      app,
      '--data',
      data,
      '--open',
      '--port',
      `${port}`,
      '--partitions',
      '3',
      '--wait',
    ])
  }
  let load: ManyClients | undefined
  let serving = start()
  let next: Running | undefined
  t.after(async () => {
    await Promise.all([serving.stop('SIGKILL'), next?.stop('SIGKILL'), load?.close()])
    await rm(home, { recursive: true })
  })
  await serving.line(/listens on/)
  const many = new ManyClients(clients, `http://127.0.0.1:${port}`, random)
  load = many

  let pauseMsMax = 0
  for (let deploy = 0; deploy < deploys; deploy++) {
    await many.replies(1 + Math.floor(random() * 400))
    next = start()
    await next.error(/waiting for pid/)
    // `doctor` beside a busy process disturbs nothing and reports no damage.
    for (const look of deploy % 5 === 0 ? [['verify', '--no-history'], ['doctor']] : []) {
      const { code, stdout, stderr } = await hence([...look, '--data', data])
      assert.equal(code, 0, `${stdout}${stderr}`)
    }
    const asked = performance.now()
    const ended = serving.stop('SIGTERM')
    await next.line(/listens on/)
    pauseMsMax = Math.max(pauseMsMax, Math.round(performance.now() - asked))
    assert.equal(await ended, 0, serving.errors)
    // It was opened to everybody on this machine, and says so.
    assert.doesNotMatch(serving.errors.replace(/^warning: server-open:.*$/m, ''), /warning|alarm/)
    serving = next
  }
  await many.replies(500)
  await many.stop()
  await many.check()
  assert.equal(await serving.stop(), 0, serving.errors)
  t.diagnostic(JSON.stringify({ requests: many.told.size, ...many.counts, pauseMsMax }))
})
