import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, fdatasyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Reply } from 'hence'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import type { Order, Told } from './engine-process.ts'
import { expected, type Wish } from './ledger.ts'

// The engine runs in a separate process and is killed again and again with requests under way. This process
// is the client: it keeps a ledger of its requests and replies on the disk. Nothing that was acknowledged may
// be lost, nothing may happen twice, and every retry must get the stored outcome.

const kills = Number(process.env['HENCE_KILLS'] ?? 6)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const inFlightMax = 48

/** Lines on the disk: a request before it is sent, a reply before it counts as received. */
class Ledger {
  readonly #path: string
  readonly #file: number

  constructor(path: string) {
    this.#path = path
    this.#file = openSync(path, 'a')
  }

  write(lines: readonly object[]): void {
    writeSync(this.#file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    fdatasyncSync(this.#file)
  }

  read(): { wishes: Map<string, Wish>; told: Map<string, Reply> } {
    const wishes = new Map<string, Wish>()
    const told = new Map<string, Reply>()
    for (const line of readFileSync(this.#path, 'utf8').trimEnd().split('\n')) {
      const entry = JSON.parse(line)
      if ('wish' in entry) wishes.set(entry.wish.id, entry.wish)
      else told.set(entry.told.requestId, entry.told)
    }
    return { wishes, told }
  }

  close(): void {
    closeSync(this.#file)
  }
}

const name = crashAt(
  ['during start', 'requests in flight'],
  `${kills} kills, nothing acknowledged is lost and nothing happens twice (HENCE_SEED=${seed})`,
)
test(name, { timeout: 3_600_000 }, async (t) => {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const home = await mkdtemp(join(tmpdir(), 'hence-kill-'))
  const data = join(home, 'data')
  const ledger = new Ledger(join(home, 'ledger'))
  const wishes = new Map<string, Wish>()
  const told = new Map<string, Reply>()
  const unanswered = new Map<string, Wish>()
  const counts = { sent: 0, retried: 0, again: 0, early: 0 }
  let child: ChildProcess | undefined
  t.after(async () => {
    child?.kill('SIGKILL')
    ledger.close()
    await rm(home, { recursive: true })
  })

  const start = () => {
    const path = fileURLToPath(import.meta.resolve('./engine-process.ts'))
    child = fork(path, [data], {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    return child
  }
  const newWish = (): Wish => {
    const id = `wish-${counts.sent++}`
    const till = `till ${below(12)}`
    if (random() < 0.05) return { id, type: 'empty', input: { till } }
    return { id, type: 'pay', input: { till, town: `town ${below(7)}`, cents: 1 + below(200) } }
  }

  /** Adds a reply to the ledger; for a retry, compares it with the first reply. */
  const hear = (reply: Reply) => {
    const { replayed, ...outcome } = reply
    const before = told.get(reply.requestId)
    if (before === undefined) {
      ledger.write([{ told: outcome }])
      told.set(reply.requestId, outcome as Reply)
      unanswered.delete(reply.requestId)
    } else {
      assert.deepEqual(outcome, before, `request ${reply.requestId} got another outcome`)
      assert.equal(replayed, true)
      counts.again++
    }
  }

  /** One process: sends undecided requests, some decided ones, then new ones, until it is killed. */
  const live = async (last: boolean): Promise<void> => {
    const process = start()
    const send = (order: Order) => process.connected && process.send(order, () => {})
    const submit = (wish: Wish) => send({ kind: 'submit', ...wish } as Order)
    const early = !last && random() < 0.15
    const killAfter = below(250)
    let heard = 0
    let closing = false
    let failure: unknown
    if (early) setTimeout(() => process.kill('SIGKILL'), below(400)).unref()
    const under = new Set<string>()
    const goOn = () => {
      if (last && unanswered.size === 0 && !closing) {
        closing = true
        send({ kind: 'close' })
      }
      if (last) return
      const fresh: Wish[] = []
      while (under.size + fresh.length < inFlightMax) fresh.push(newWish())
      ledger.write(fresh.map((wish) => ({ wish })))
      for (const wish of fresh) {
        wishes.set(wish.id, wish)
        unanswered.set(wish.id, wish)
        under.add(wish.id)
        submit(wish)
      }
    }
    process.on('message', (message: Told) => {
      try {
        if (message.kind === 'ready') {
          counts.retried += unanswered.size
          for (const wish of unanswered.values()) {
            under.add(wish.id)
            submit(wish)
          }
          const old = [...told.keys()]
          for (let i = 0; i < Math.min(20, old.length); i++) submit(wishes.get(old[below(old.length)]!)!)
          goOn()
        } else if (message.kind === 'reply') {
          const reply = message.reply as Reply
          hear(reply)
          under.delete(reply.requestId)
          if (!last && ++heard >= killAfter) process.kill('SIGKILL')
          if (under.size < inFlightMax / 2) goOn()
        } else if (message.kind === 'error') {
          assert.fail(`request ${message.id}: ${message.code}: ${message.message}`)
        }
      } catch (error) {
        failure ??= error
        process.kill('SIGKILL')
      }
    })
    const [code, signal] = await once(process, 'exit')
    if (failure) throw failure
    if (early && heard === 0) counts.early++
    assert.ok(last ? code === 0 : signal === 'SIGKILL', `the engine ended by itself with ${code ?? signal}`)
  }

  const look = async () => {
    const process = start()
    try {
      for (;;) {
        const [message] = (await once(process, 'message')) as [Told]
        if (message.kind === 'ready') process.send({ kind: 'look' } satisfies Order)
        else if (message.kind === 'seen') return message
      }
    } finally {
      process.send({ kind: 'close' } satisfies Order)
      await once(process, 'exit')
    }
  }

  for (let life = 0; life < kills; life++) await live(false)
  await live(true)

  const kept = ledger.read()
  assert.equal(kept.told.size, kept.wishes.size, 'a request was never decided')
  const seen = await look()
  assert.deepEqual(seen, { kind: 'seen', ...expected(kept), digest: seen.digest })

  rmSync(join(data, 'state'), { recursive: true })
  assert.equal((await look()).digest, seen.digest, 'a derivation from offset 0 has another digest')
  t.diagnostic(
    `${JSON.stringify(counts)}, rejected: ${[...kept.told.values()].filter((each) => each.status === 'rejected').length}`,
  )
  assert.ok(
    counts.retried > kills && counts.again > kills,
    'too few requests were retried, so this test shows nothing',
  )
})
