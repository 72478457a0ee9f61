import assert from 'node:assert/strict'
import { cp, mkdtemp, open, readdir, rename, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createEngine, type Report } from 'hence'
import { server } from 'hence/server'
import { exitCode } from '../../src/cli/terminal/exit-code.ts'
import { started } from '../hence-process.ts'
import type app from './till.ts'

// The data directory is removed, or its log changed, under a running process. The process says so at once,
// and acknowledges no request that may be gone tomorrow.

const pay = { town: 'a', till: 'a', cents: 1 }

async function homeFor(t: TestContext): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'hence-lost-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  return home
}

async function lastSegment(data: string): Promise<string> {
  const folder = join(data, 'log', 'p0000')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.segment'))
  return join(folder, names.sort().at(-1)!)
}

/** Each takes the last acknowledged request away, or may have. */
const losses: Readonly<Record<string, (data: string) => Promise<void>>> = {
  'the directory is removed': (data) => rm(data, { recursive: true }),
  'the directory is moved': (data) => rename(data, `${data}.moved`),
  'the log is removed': (data) => rm(join(data, 'log'), { recursive: true }),
  'meta.json is removed': (data) => rm(join(data, 'log', 'meta.json')),
  'the segment is removed': async (data) => rm(await lastSegment(data)),
  'the segment is emptied': async (data) => truncate(await lastSegment(data), 0),
  'the segment is cut': async (data) => truncate(await lastSegment(data), 1000),
  async 'the segment is zeroed'(data) {
    const file = await open(await lastSegment(data), 'r+')
    await file.write(Buffer.alloc((await file.stat()).size), 0)
    await file.close()
  },
  async 'the segment is replaced'(data) {
    const path = await lastSegment(data)
    await cp(path, `${path}.copy`)
    await rename(`${path}.copy`, path)
  },
}

for (const [what, lose] of Object.entries(losses)) {
  for (const asked of ['ready', 'request', 'nothing'] as const) {
    // The segments are whole, so a request is not lost.
    if (what === 'meta.json is removed' && asked === 'request') continue
    const next = { ready: 'a probe asks', request: 'a request comes', nothing: 'nobody asks' }[asked]
    test(`${what}, then ${next}`, async (t) => {
      const data = join(await homeFor(t), 'data')
      const reports: Report[] = []
      const alarm = Promise.withResolvers<void>()
      const engine = await createEngine<typeof app>({
        app: import.meta.resolve('./till.ts'),
        data,
        report(each) {
          reports.push(each)
          if (each.level === 'alarm') alarm.resolve()
        },
      })
      const web = server(engine, { open: true, report: () => {} })
      const ask = async (path: string) => (await web.fetch(new Request(`http://localhost${path}`))).status
      assert.equal((await engine.submit('pay', pay, { requestId: 'first' })).status, 'accepted')
      assert.equal(await ask('/readyz'), 200)

      await lose(data)
      if (asked === 'ready') assert.equal(await ask('/readyz'), 503)
      const refused = { code: 'engine-stopped' }
      if (asked === 'request')
        await assert.rejects(engine.submit('pay', pay, { requestId: 'second' }), refused)
      // The engine checks about once a second.
      await alarm.promise
      assert.equal(await ask('/readyz'), 503)
      await assert.rejects(engine.submit('pay', pay, { requestId: 'third' }), refused)
      assert.deepEqual(
        reports.filter(({ level }) => level === 'alarm').map(({ code }) => code),
        ['engine-stopped'],
      )
      assert.match(reports.find(({ level }) => level === 'alarm')!.message, /data-lost/)
      await web.close()
      await assert.rejects(engine.close(), { code: 'data-lost' })
    })
  }
}

test('a server whose directory is removed ends with an error, and acknowledges nothing before it does', async (t) => {
  const home = await homeFor(t)
  const data = join(home, 'data')
  const running = await started([join(import.meta.dirname, 'till.ts'), '--data', data])
  const send = (id: string) =>
    fetch(`${running.url}/requests/pay`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': id },
      body: JSON.stringify(pay),
    }).then(
      ({ status }) => status,
      () => undefined,
    )
  assert.equal(await send('first'), 200)
  await rm(data, { recursive: true })
  for (let i = 0; i < 5; i++) assert.notEqual(await send(`late-${i}`), 200)
  assert.equal(await running.ended, exitCode.operator)
  assert.match(running.errors, /data-lost/)
})

test('a server that is stopped after its directory was removed says so, and does not end with 0', async (t) => {
  const home = await homeFor(t)
  const data = join(home, 'data')
  const running = await started([join(import.meta.dirname, 'till.ts'), '--data', data])
  await rm(data, { recursive: true })
  assert.equal(await running.stop(), exitCode.operator)
  assert.match(running.errors, /data-lost/)
})
