import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createEngine } from 'hence'
import { connect } from 'hence/client'
import { postgresLog } from 'hence/postgres'
import type counter from '../apps/counter.ts'
import { freePort } from '../free-port.ts'
import { logAddress, startLogCluster } from '../postgres-cluster.ts'
import { Machine } from './machine.ts'

// Two machines on one log in PostgreSQL are deployed one after the other, under requests at a fixed rate:
// `npm run rolling`. No call of a client may fail, and each request counts once.

const rate = Number(process.env['HENCE_RATE'] ?? 0)
const tickMs = 10
const keys = 64

const app = fileURLToPath(import.meta.resolve('../apps/counter.ts'))
const without = rate === 0 && 'HENCE_RATE says how many requests a second are sent: npm run rolling'
const home = await mkdtemp(join(tmpdir(), 'hence-rolling-'))
const started = without ? undefined : await startLogCluster()
const machines: Machine[] = []
after(async () => {
  for (const machine of machines) machine.end()
  await started?.end()
  await rm(home, { recursive: true, force: true })
})

interface Reply {
  readonly key: string
  readonly token: string
  readonly value: unknown
}

test(`a rolling deploy under ${rate} requests a second: no call fails, and each request counts once`, {
  skip: without || started!.skip,
  timeout: 300_000,
}, async (t) => {
  const { cluster } = started!
  const log = logAddress(cluster)
  for (const name of ['a', 'b'])
    machines.push(new Machine(app, { data: join(home, name), log, port: await freePort() }))
  const [a, b] = machines as [Machine, Machine]
  const load = new Load([a.url, b.url])
  a.start()
  await a.isActive()
  b.start()
  await b.follows(a)
  load.start()
  await load.acknowledged(rate)
  for (const [active, next] of [
    [a, b],
    [b, a],
  ] as const) {
    await warm(next)
    load.pauseMs = 0
    assert.equal(await active.process.stop(), 0, active.process.errors)
    await next.isActive()
    await load.acknowledged(rate)
    const paused = Math.round(load.pauseMs)
    t.diagnostic(`a deploy: nothing was acknowledged for ${paused} ms`)
    active.start()
    await active.follows(next)
  }
  const { sent, seconds, latencies } = await load.stop()
  const at = (share: number) => Math.round(latencies[Math.floor(latencies.length * share)]!)
  t.diagnostic(
    `${sent} requests in ${seconds.toFixed(1)} s (${Math.round(sent / seconds)} a second), ${load.failed.length} ` +
      `failed; ms until the outcome: p50 ${at(0.5)}, p99 ${at(0.99)}, most ${at(0.999999)}`,
  )
  assert.deepEqual(load.failed, [])
  assert.equal(load.replies.size, sent)
  const sums = await load.checkRetries()
  for (const machine of [b, a]) assert.equal(await machine.process.stop(), 0)

  const options = { app, report: () => {} }
  const open = (data: string) =>
    createEngine<typeof counter>({
      ...options,
      data,
      log: postgresLog({ connection: cluster!.connection, report: () => {} }),
    })
  const engine = await open(a.data)
  const requests = new Map<string, number>()
  for (const [partition, end] of (await engine.log.ends()).entries()) {
    if (end === 0) continue
    for await (const { json } of engine.log.read(partition, 0)) {
      const { requestId } = JSON.parse(json)
      if (requestId !== undefined) requests.set(requestId, (requests.get(requestId) ?? 0) + 1)
    }
  }
  for (const id of load.replies.keys()) assert.equal(requests.get(id), 1, id)
  assert.equal(requests.size, sent)
  for (const [key, n] of sums) assert.deepEqual(await engine.get('counts', [key]), { n })
  const digest = await engine.digest()
  await engine.close()
  const replay = await open(join(home, 'replay'))
  assert.equal(
    replay.stats().replayed,
    replay.stats().applied.reduce((sum, n) => sum + n, 0),
  )
  assert.equal(await replay.digest(), digest)
  await replay.close()
})

/** Waits until a standby answers reads, so that it has derived what the active one has. */
async function warm({ url }: Machine): Promise<void> {
  const reader = connect<typeof counter>(url, { patienceMs: 120_000 })
  await reader.scan('counts', { limit: 1 })
  await reader.close()
}

/** Requests at a fixed rate, however long the answers take. */
class Load {
  readonly replies = new Map<string, Reply>()
  readonly failed: unknown[] = []
  readonly #hence
  readonly #latencies: number[] = []
  readonly #stopping = new AbortController()
  readonly #open = new Set<Promise<void>>()
  #sending: Promise<void> | undefined
  #sent = 0
  #startedAt = 0
  #lastAt = 0
  /** The longest time without an acknowledgement, in milliseconds. */
  pauseMs = 0
  #waiting: { count: number; resolve: () => void } | undefined

  constructor(urls: readonly string[]) {
    this.#hence = connect<typeof counter>(urls, { patienceMs: 120_000 })
  }

  start(): void {
    this.#sending = this.#send()
  }

  async #send(): Promise<void> {
    this.#startedAt = this.#lastAt = performance.now()
    while (!this.#stopping.signal.aborted) {
      const due = Math.floor(((performance.now() - this.#startedAt) / 1_000) * rate)
      for (; this.#sent < due; this.#sent++) {
        const one = this.#one(this.#startedAt + (this.#sent / rate) * 1_000, `k${this.#sent % keys}`)
        this.#open.add(one)
        void one.then(() => this.#open.delete(one))
      }
      await pause(tickMs)
    }
  }

  /** @param dueAt when it was to be sent: its latency counts from there */
  async #one(dueAt: number, key: string): Promise<void> {
    const requestId = randomUUID()
    try {
      const { status, token, ...rest } = await this.#hence.submit('count', { key }, { requestId })
      const now = performance.now()
      this.#latencies.push(now - dueAt)
      this.pauseMs = Math.max(this.pauseMs, now - this.#lastAt)
      this.#lastAt = now
      if (status !== 'accepted') throw new Error(status)
      this.replies.set(requestId, { key, token, value: (rest as { value: unknown }).value })
    } catch (error) {
      this.failed.push(error)
    }
    if (this.#waiting && this.replies.size >= this.#waiting.count) this.#waiting.resolve()
  }

  /** Waits for so many more. */
  async acknowledged(more: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting = { count: this.replies.size + more, resolve }
    await promise
  }

  /** Waits for the outcomes of all that was sent. */
  async stop(): Promise<{ sent: number; seconds: number; latencies: number[] }> {
    this.#stopping.abort()
    await this.#sending
    const seconds = (performance.now() - this.#startedAt) / 1_000
    await Promise.all(this.#open)
    return { sent: this.#sent, seconds, latencies: this.#latencies.sort((x, y) => x - y) }
  }

  /** Sends each request again; returns how many there are of each key. */
  async checkRetries(): Promise<Map<string, number>> {
    const sums = new Map<string, number>()
    const all = this.replies.entries()
    const loops = Array.from({ length: 32 }, async () => {
      for (const [requestId, { key, token, value }] of all) {
        const again = await this.#hence.submit('count', { key }, { requestId })
        assert.deepEqual(
          [again.replayed, again.token, again.status === 'accepted' && again.value],
          [true, token, value],
        )
        sums.set(key, (sums.get(key) ?? 0) + 1)
      }
    })
    await Promise.all(loops)
    await this.#hence.close()
    return sums
  }
}
