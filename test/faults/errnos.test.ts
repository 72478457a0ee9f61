import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { hence } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import { ManyClients } from './many-clients.ts'

// strace makes system calls of a running server fail, one kind after the other, under load. Nothing that was
// acknowledged may be lost, errors must be clear, and the server must go on by itself once calls succeed.

const faults = [
  ['pwrite64', 'ENOSPC'],
  ['pwrite64', 'EROFS'],
  ['fdatasync', 'EIO'],
  ['openat', 'EMFILE'],
  ['openat', 'EROFS'],
  ['statx', 'EIO'],
  ['pread64', 'EIO'],
] as const

/** Codes that say what is wrong and that a retry is right. */
const clear = ['log-write-failed', 'log-read-failed', 'writes-held-up', 'file-unusable', 'overloaded']

async function filesOf(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true })
  return found.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
}

function mayTrace(): boolean {
  try {
    execFileSync('strace', ['-qq', '-o', '/dev/null', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const skip = mayTrace() ? false : 'strace is not here, or may not trace'
test('system calls fail under load: nothing is lost, and it goes on by itself', { skip }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-errnos-'))
  const data = join(home, 'data')
  // Its segments are small, and so are its checkpoints.
  const server = fork(fileURLToPath(import.meta.resolve('./server-process.ts')), [data, '0'], {
    execArgv: ['-C', 'hence-source'],
  })
  const [{ port }] = (await once(server, 'message')) as [{ port: number }]
  const url = `http://127.0.0.1:${port}`
  const load = new ManyClients(8, url, randomFrom(1), 10)
  let strace: ChildProcess | undefined
  t.after(async () => {
    strace?.kill('SIGKILL')
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
    const inject = ['-e', `trace=${call}`, '-e', `inject=${call}:error=${errno}`]
    // The log alone: LMDB reads nothing more after it could not write the first page of its file, until the
    // process starts again.
    if (call === 'pwrite64') for (const path of await filesOf(join(data, 'log'))) inject.push('-P', path)
    strace = spawn('strace', ['-f', '-o', '/dev/null', ...inject, '-p', `${server.pid}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    await once(strace.stderr!, 'data')
    let isOver = false
    void load.replies(200).then(() => {
      isOver = true
    })
    // Some calls are not on the way of a request.
    while (!isOver && load.counts.retries < retries + 16) await pause(20)
    // The health check meets it too.
    for (let i = 0; i < 5; i++) await isReady()
    const ended = once(strace, 'exit')
    strace.kill('SIGINT')
    await ended
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
