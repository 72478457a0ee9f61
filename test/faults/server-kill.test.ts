import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Reply } from 'hence'
import { type Client, client, connect, memory } from 'hence/client'
import { randomFrom } from '../random.ts'
import { expected, type Wish } from './ledger.ts'
import type till from './till.ts'

// The server's process is killed by SIGKILL, again and again, under many concurrent clients, each of which sends one
// request after the other and retries by itself. What they were told, and what the tables say, must agree.

const kills = Number(process.env['HENCE_KILLS'] ?? 50)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const clients = 64

test(`the server killed ${kills} times under ${clients} clients (HENCE_SEED=${seed})`, {
  timeout: 3_600_000,
}, async (t) => {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const home = await mkdtemp(join(tmpdir(), 'hence-server-kill-'))
  const data = join(home, 'data')
  let child: ChildProcess | undefined
  let port = 0
  const all: Client<typeof till>[] = []
  t.after(async () => {
    child?.kill('SIGKILL')
    await Promise.all(all.map((each) => each.close()))
    await rm(home, { recursive: true })
  })
  /** Starts the server where the last one was, and resolves when it is ready. */
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
  const url = `http://127.0.0.1:${port}`

  const wishes = new Map<string, Wish>()
  const told = new Map<string, Reply>()
  const counts = { retries: 0, replayed: 0, longestMs: 0 }
  let isOver = false
  let heard: (() => void) | undefined
  const live = async (number: number): Promise<void> => {
    const hence = client<typeof till>({
      url,
      outbox: memory(),
      backoff: { firstMs: 5, mostMs: 100 },
      timeoutMs: 5_000,
      random,
    })
    all.push(hence)
    hence.on('retrying', () => counts.retries++)
    for (let made = 0; !isOver; made++) {
      const id = `c${number}-${made}`
      const into = `till ${below(12)}`
      const wish: Wish =
        random() < 0.2
          ? { id, type: 'empty', input: { till: into } }
          : { id, type: 'pay', input: { till: into, town: `town ${below(7)}`, cents: 1 + below(200) } }
      wishes.set(id, wish)
      const begun = performance.now()
      const reply = await hence.submit(wish.type, wish.input as never, { requestId: id })
      counts.longestMs = Math.max(counts.longestMs, performance.now() - begun)
      const { replayed, ...outcome } = reply
      // A replayed first reply is one whose own answer died with the server, or on its way.
      if (replayed) counts.replayed++
      told.set(id, outcome as Reply)
      heard?.()
    }
  }
  const living = Promise.all(Array.from({ length: clients }, (_, number) => live(number)))
  living.catch(() => {})

  for (let kill = 0; kill < kills; kill++) {
    // Killed after so many replies: with the rest of the 64 somewhere between the socket and the reply.
    let left = 1 + below(400)
    await Promise.race([
      living,
      new Promise<void>((resolve) => {
        heard = () => {
          if (--left === 0) resolve()
        }
      }),
    ])
    const exit = once(server, 'exit')
    server.kill('SIGKILL')
    const [, signal] = await exit
    assert.equal(signal, 'SIGKILL')
    server = await start()
  }
  isOver = true
  await living

  assert.equal(told.size, wishes.size, 'every wish was decided in the end')
  const remote = connect<typeof till>(url)
  const tokens = new Map<string, number>()
  for (const { token } of told.values()) {
    const [partition = '', offset] = token.split(':')
    tokens.set(partition, Math.max(tokens.get(partition) ?? 0, Number(offset)))
  }
  // With the events that follow from the last request of each partition all of the others have been applied too.
  const after = [...tokens].map(([partition, offset]) => `${partition}:${offset}`)
  const seen = {
    tills: await remote.scan('tills', {}, { after }),
    towns: await remote.scan('towns', {}, { after }),
  }
  assert.deepEqual(seen, expected({ wishes, told }))

  // Whoever asks again is told the same.
  const ids = [...told.keys()]
  for (let i = 0; i < 500; i++) {
    const { id, type, input } = wishes.get(ids[below(ids.length)]!)!
    const { replayed, ...outcome } = await remote.submit(type, input as never, { requestId: id })
    assert.equal(replayed, true)
    assert.deepEqual(outcome, told.get(id))
  }
  await remote.close()
  const exit = once(server, 'exit')
  server.send('close')
  assert.equal((await exit)[0], 0)
  t.diagnostic(JSON.stringify({ requests: told.size, ...counts, longestMs: Math.round(counts.longestMs) }))
  assert.ok(counts.retries > kills, 'there was something to lose')
})
