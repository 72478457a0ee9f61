import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { hence } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import { ManyClients } from './many-clients.ts'
import { attach, noTracing } from './strace.ts'

// strace makes system calls of a running server fail, one kind after the other, under load. Nothing that was
// acknowledged may be lost, errors must be clear, and the server must go on by itself once calls succeed.

const all = [
  ['pwrite64', 'ENOSPC'],
  ['pwrite64', 'EROFS'],
  ['pwrite64', 'EIO'],
  ['fdatasync', 'EIO'],
  ['openat', 'EMFILE'],
  ['openat', 'EROFS'],
  ['statx', 'EIO'],
  ['pread64', 'EIO'],
] as const
// Each takes some seconds; every run takes one of the first three, and one of the others.
const draw = <T>(from: readonly T[]) => from[randomInt(from.length)]!
const faults = process.env['HENCE_ERRNOS'] === 'all' ? all : [draw(all.slice(0, 3)), draw(all.slice(3))]

/** Codes that say what is wrong and that a retry is right. */
const clear = ['log-write-failed', 'log-read-failed', 'writes-held-up', 'file-unusable', 'overloaded']

test('system calls fail under load: nothing is lost, and it goes on by itself', {
  skip: noTracing,
}, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-errnos-'))
  const data = join(home, 'data')
  // Its segments are small, and so are its checkpoints.
  const server = fork(fileURLToPath(import.meta.resolve('./server-process.ts')), [data, '0'], {
    execArgv: ['-C', 'hence-source'],
  })
  const [{ port }] = (await once(server, 'message')) as [{ port: number }]
  const url = `http://127.0.0.1:${port}`
  const load = new ManyClients(8, url, randomFrom(1), 10)
  let tracing: Awaited<ReturnType<typeof attach>> | undefined
  t.after(async () => {
    await tracing?.stop('SIGKILL')
    server.kill('SIGKILL')
    await load.close()
    await rm(home, { recursive: true })
  })
  const isReady = async () => {
    const { status } = await fetch(`${url}/readyz`)
    assert.ok(status === 200 || status === 503)
    return status === 200
  }
  for (const [call, errno] of faults) {
    await load.replies(50)
    load.problems.clear()
    const { retries } = load.counts
    tracing = await attach(server.pid!, { calls: [call], inject: `${call}:error=${errno}` })
    let isOver = false
    void load.replies(200).then(() => {
      isOver = true
    })
    // Some calls are not on the way of a request.
    while (!isOver && load.counts.retries < retries + 16) await pause(20)
    // The health check meets it too.
    for (let i = 0; i < 5; i++) await isReady()
    await tracing.stop('SIGINT')
    while (!(await isReady())) await pause(20)
    t.diagnostic(`${call} ${errno}: ${load.counts.retries - retries} tries again: ${[...load.problems]}`)
    for (const code of load.problems) assert.ok(clear.includes(code), `${call} ${errno}: ${code}`)
  }
  await load.replies(50)
  await load.stop()
  await load.check()
  const exit = once(server, 'exit')
  server.send('close')
  assert.equal((await exit)[0], 0)
  const verified = JSON.parse((await hence(['verify', '--data', data, '--json'])).stdout)
  assert.deepEqual([verified.ok, verified.history.checked], [true, true])
})
