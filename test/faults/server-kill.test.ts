import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import { ManyClients } from './many-clients.ts'

// The server's process is killed again and again under many concurrent clients. Each sends one request after
// another and retries by itself. Their replies must agree with the tables.

const kills = Number(process.env['HENCE_KILLS'] ?? 5)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const clients = 64

const name = crashAt(
  'requests in flight',
  `${kills} kills under ${clients} clients, their replies agree with the tables (HENCE_SEED=${seed})`,
)
test(name, { timeout: 3_600_000 }, async (t) => {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const home = await mkdtemp(join(tmpdir(), 'hence-server-kill-'))
  const data = join(home, 'data')
  let child: ChildProcess | undefined
  let port = 0
  let load: ManyClients | undefined
  t.after(async () => {
    child?.kill('SIGKILL')
    await load?.close()
    await rm(home, { recursive: true })
  })
  /** Starts a server on the previous server's port, and resolves when it is ready. */
  const start = async (): Promise<ChildProcess> => {
    const path = fileURLToPath(import.meta.resolve('./server-process.ts'))
    const execArgv = ['-C', 'hence-source']
    const started = fork(path, [data, String(port)], {
      execArgv,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    child = started
    const ended = once(started, 'exit').then(([code]) => assert.fail(`the server ended with ${code}`))
    ended.catch(() => {})
    const [ready] = await Promise.race([once(started, 'message'), ended])
    port = (ready as { port: number }).port
    return started
  }
  let server = await start()

  const many = new ManyClients(clients, `http://127.0.0.1:${port}`, random)
  load = many

  for (let kill = 0; kill < kills; kill++) {
    // Killed after so many replies: with the rest of the 64 somewhere between the socket and the reply.
    await many.replies(1 + below(400))
    const exit = once(server, 'exit')
    server.kill('SIGKILL')
    const [, signal] = await exit
    assert.equal(signal, 'SIGKILL')
    server = await start()
  }
  await many.stop()
  await many.check()
  const exit = once(server, 'exit')
  server.send('close')
  assert.equal((await exit)[0], 0)
  t.diagnostic(JSON.stringify({ requests: many.told.size, ...many.counts }))
  assert.ok(many.counts.retries > kills, 'there was something to lose')
})
