import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connect } from 'hence/client'
import type counter from '../apps/counter.ts'
import { crashAt } from '../crash-points.ts'
import { freePort } from '../free-port.ts'
import { hence } from '../hence-process.ts'
import { logAddress, startLogCluster } from '../postgres-cluster.ts'
import { Machine } from './machine.ts'

// Two machines, each with a directory of its own, and a log in PostgreSQL. The worst results would be a
// request that was acknowledged and is gone, that was counted twice, or that both machines acknowledged.

const app = fileURLToPath(import.meta.resolve('../apps/counter.ts'))
const home = await mkdtemp(join(tmpdir(), 'hence-standby-'))
const { cluster, skip: why, end } = await startLogCluster()
const machines: Machine[] = []
after(async () => {
  for (const machine of machines) machine.end()
  await end()
  await rm(home, { recursive: true, force: true })
})
const log = logAddress(cluster)

/** A machine that starts the app again and again. */
const machine = async () => new Machine(app, { data: join(home, randomUUID()), log, port: await freePort() })

const claim = 'one of two machines goes on, and every request counts once'
const name = crashAt(['requests in flight', 'log sealed', 'PostgreSQL transaction'], claim)
test(name, { skip: why, timeout: 300_000 }, async (t) => {
  const [a, b] = [await machine(), await machine()]
  machines.push(a, b)
  a.start()
  await a.isActive()
  b.start()
  await b.follows(a)
  const refused = await fetch(`${b.url}/requests/count`, { method: 'POST' })
  const { code, detail } = (await refused.json()) as { code: string; detail: string }
  assert.deepEqual([refused.status, code], [503, 'engine-standby'])
  assert.ok(detail.includes(a.url))

  const clients = new Clients([a.url, b.url])
  await clients.acknowledged(100)
  // The standby answers reads, behind what was acknowledged, for clients that ask it alone.
  await clients.checkReads(b.url)
  await cluster!.halt('killed')
  await b.process.error(/carrier-unreachable/)
  await cluster!.resume()
  // The active one is still the same.
  await clients.acknowledged(100)
  assert.equal((await fetch(`${b.url}/readyz`)).status, 503)
  clients.longestPause()
  a.process.process.kill('SIGKILL')
  await a.process.ended
  await b.isActive()
  await clients.acknowledged(100)
  const killed = clients.longestPause()

  a.start()
  await a.follows(b)
  // Although its process before was killed, it derives what the other one has.
  await clients.checkReads(a.url)
  clients.longestPause()
  assert.equal(await b.process.stop(), 0)
  await a.isActive()
  await clients.acknowledged(100)
  const stopped = clients.longestPause()
  t.diagnostic(`nothing was acknowledged for ${killed} ms after SIGKILL, and for ${stopped} ms at SIGTERM`)

  b.start()
  await b.follows(a)
  a.process.process.kill('SIGSTOP')
  await b.isActive()
  await clients.acknowledged(100)
  a.process.process.kill('SIGCONT')
  assert.equal(await a.process.ended, 5, a.process.errors)
  assert.match(a.process.errors, /log-taken/)
  await clients.acknowledged(100)

  await clients.stop()
  const sums = await clients.checkRetries()
  const hence_ = connect<typeof counter>(b.url)
  for (const [key, n] of sums) assert.deepEqual(await hence_.get('counts', [key]), { n })
  await hence_.close()
  assert.equal(await b.process.stop(), 0)
  const verified = await hence(['verify', '--data', b.data, '--log', log])
  assert.equal(verified.code, 0, verified.stdout + verified.stderr)
})

/** Clients that go on sending, whichever machine answers. */
class Clients {
  readonly #hence
  readonly #stopping = new AbortController()
  readonly #acknowledged = new Map<string, { key: string; token: string; value: unknown }>()
  readonly #loops: Promise<void>[]
  #lastAt = performance.now()
  #pauseMs = 0
  #waiting: { count: number; resolve: () => void } | undefined

  constructor(urls: readonly string[]) {
    this.#hence = connect<typeof counter>(urls, { timeoutMs: 1_000, patienceMs: 120_000 })
    this.#loops = Array.from({ length: 8 }, (_, n) => this.#loop(`k${n}`))
  }

  async #loop(key: string): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const requestId = randomUUID()
      const reply = await this.#hence.submit('count', { key }, { requestId })
      assert.equal(reply.status, 'accepted')
      // Nobody else writes this row: reads go on across each hand-over too, and show what was acknowledged.
      const { n } = (await this.#hence.get('counts', [key], { after: reply.token }))!
      assert.deepEqual(reply.value, { n })
      this.#pauseMs = Math.max(this.#pauseMs, performance.now() - this.#lastAt)
      this.#lastAt = performance.now()
      this.#acknowledged.set(requestId, { key, token: reply.token, value: reply.value })
      if (this.#waiting && this.#acknowledged.size >= this.#waiting.count) this.#waiting.resolve()
    }
  }

  /** The longest time without an acknowledgement since the last call, in milliseconds. */
  longestPause(): number {
    const longest = Math.round(this.#pauseMs)
    this.#pauseMs = 0
    return longest
  }

  /** Waits for so many more. */
  async acknowledged(more: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting = { count: this.#acknowledged.size + more, resolve }
    await Promise.race([promise, ...this.#loops])
  }

  /** Reads at one machine what was acknowledged last. */
  async checkReads(url: string): Promise<void> {
    const reader = connect<typeof counter>(url, { patienceMs: 60_000 })
    const { key, token, value } = [...this.#acknowledged.values()].at(-1)!
    const row = await reader.get('counts', [key], { after: token })
    assert.ok(row!.n >= (value as { n: number }).n, JSON.stringify({ row, value }))
    await reader.close()
    const answer = await fetch(`${url}/tables/counts/${key}`)
    assert.match(answer.headers.get('hence-age') ?? '', /^\d+$/)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#loops)
  }

  /** Sends each request again; returns how many there are of each key. */
  async checkRetries(): Promise<Map<string, number>> {
    const sums = new Map<string, number>()
    for (const [requestId, { key, token, value }] of this.#acknowledged) {
      const again = await this.#hence.submit('count', { key }, { requestId })
      assert.deepEqual(
        [again.replayed, again.token, again.status === 'accepted' && again.value],
        [true, token, value],
      )
      sums.set(key, (sums.get(key) ?? 0) + 1)
    }
    await this.#hence.close()
    return sums
  }
}
