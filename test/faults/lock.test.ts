import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { app, createEngine, HenceError, type Report } from 'hence'
import { lockHolderOf } from '../../src/storage/directory-lock.ts'
import { crashAt } from '../crash-points.ts'

// One process writes a log. A second one is refused; a killed one blocks nobody.

const idle = app('idle', { requests: [], tables: [] })
let data: string
const holders: ChildProcess[] = []

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), 'hence-lock-'))
})
afterEach(async () => {
  for (const holder of holders.splice(0)) holder.kill('SIGKILL')
  await rm(data, { recursive: true })
})

/** Starts a process that opens the directory; resolves when it has it, or has ended. */
async function holder(
  script = './lock-holder.ts',
): Promise<{ process: ChildProcess; opened: boolean; errors: () => string }> {
  const file = fileURLToPath(import.meta.resolve(script))
  const child = spawn(process.execPath, ['-C', 'hence-source', file, data], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  holders.push(child)
  let errors = ''
  child.stderr.on('data', (text) => {
    errors += text
  })
  const opened = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    once(child, 'close').then(() => false),
  ])
  return { process: child, opened, errors: () => errors }
}

const inUse = (error: unknown) =>
  error instanceof HenceError &&
  error.code === 'data-in-use' &&
  error.advice === 'retry' &&
  error.message.includes(data) &&
  /another process \(\d+ on /.test(error.message)

test('a second process is refused, and the error names the holder', async () => {
  const first = await holder()
  assert.ok(first.opened, first.errors())
  await assert.rejects(createEngine({ app: idle, data }), inUse)
  const second = await holder()
  assert.equal(second.opened, false)
  assert.match(
    second.errors(),
    new RegExp(`in use by another process \\(${first.process.pid} on .*, since 20.*\\)`),
  )
})

test(crashAt('directory held', 'a killed process blocks nobody'), async () => {
  for (let round = 0; round < 5; round++) {
    const killed = await holder()
    assert.ok(killed.opened, killed.errors())
    killed.process.kill('SIGKILL')
    await once(killed.process, 'close')
  }
  const engine = await createEngine({ app: idle, data })
  await engine.close()
})

test('a process that has closed leaves the directory free, and its standard error empty', async () => {
  const first = await holder()
  first.process.stdin!.end()
  await once(first.process, 'close')
  assert.equal(first.errors(), '', 'no warning of the runtime either')
  const engine = await createEngine({ app: idle, data })
  await engine.close()
})

test('the same process is refused a second open, until it has closed the first', async () => {
  const engine = await createEngine({ app: idle, data })
  await assert.rejects(createEngine({ app: idle, data }), inUse)
  await engine.close()
  const again = await createEngine({ app: idle, data })
  await again.close()
})

test(
  crashAt(
    'directory held',
    'a waiting process reports the holder, and gets the directory when that has closed or was killed',
  ),
  async () => {
    for (const end of ['close', 'kill'] as const) {
      const first = await holder()
      assert.ok(first.opened, first.errors())
      const waiting = Promise.withResolvers<Report>()
      const report = (each: Report) => waiting.resolve(each)
      const opening = createEngine({ app: idle, data, wait: true, report })
      const { code, message } = await waiting.promise
      assert.equal(code, 'waiting-for-data')
      assert.match(message, new RegExp(`waiting for pid ${first.process.pid}`))
      if (end === 'kill') first.process.kill('SIGKILL')
      else first.process.stdin!.end()
      await (await opening).close()
    }
  },
)

test('a signal ends the waiting', async () => {
  const engine = await createEngine({ app: idle, data })
  const ended = new AbortController()
  const report = () => ended.abort(new Error('enough'))
  await assert.rejects(createEngine({ app: idle, data, wait: true, signal: ended.signal, report }), /enough/)
  await engine.close()
})

test(crashAt('directory held', 'finding the holder creates no file and keeps nobody out'), async () => {
  assert.equal(await lockHolderOf(data), undefined)
  assert.deepEqual(await readdir(data), [])
  const first = await holder()
  const seen = await lockHolderOf(data)
  assert.ok(typeof seen === 'object' && seen.pid === first.process.pid, JSON.stringify(seen))
  first.process.kill('SIGKILL')
  await once(first.process, 'close')
  assert.equal(await lockHolderOf(data), undefined, 'a killed process holds nothing, whatever it wrote down')

  // Another process looks all the time while this one opens and closes.
  const looker = await holder('./lock-looker.ts')
  assert.ok(looker.opened, looker.errors())
  for (let round = 0; round < 30; round++) await (await createEngine({ app: idle, data })).close()
  assert.equal(looker.process.exitCode, null, looker.errors())
})
