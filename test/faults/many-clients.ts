/** Many concurrent clients of the app in till.ts, each sending one request after another. */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { Reply } from 'hence'
import { type Client, client, connect, memory } from 'hence/client'
import { expected, type Wish } from './ledger.ts'
import type till from './till.ts'

/** Clients that send until they are stopped, with their requests and replies. */
export class ManyClients {
  readonly wishes = new Map<string, Wish>()
  readonly told = new Map<string, Reply>()
  /** The codes of the answers for which a client tried again. */
  readonly problems = new Set<string>()
  /**
   * `replayed`: replies to a retry whose earlier answer was lost. `longestMs`: the longest that one request
   * took, with its retries. `silentMsMax`: the longest time without a reply to any client.
   */
  readonly counts = { retries: 0, replayed: 0, longestMs: 0, silentMsMax: 0 }
  readonly #url: string
  readonly #random: () => number
  readonly #pauseMs: number
  readonly #clients: Client<typeof till>[] = []
  readonly #living: Promise<unknown>
  #isOver = false
  #heardAt = performance.now()
  #heard: (() => void) | undefined

  /** @param pauseMs how long each pauses after a reply */
  constructor(count: number, url: string, random: () => number, pauseMs = 0) {
    this.#url = url
    this.#random = random
    this.#pauseMs = pauseMs
    this.#living = Promise.all(Array.from({ length: count }, (_, number) => this.#live(number)))
    this.#living.catch(() => {})
  }

  /** Waits for this many more replies; rejects if a client got an impossible reply. */
  async replies(count: number): Promise<void> {
    let left = count
    const enough = new Promise<void>((resolve) => {
      this.#heard = () => {
        if (--left <= 0) resolve()
      }
    })
    await Promise.race([this.#living, enough])
  }

  /** Lets each finish its last request. */
  async stop(): Promise<void> {
    this.#isOver = true
    await this.#living
  }

  async close(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#clients.map((each) => each.close()))
  }

  /** Compares the tables, and the replies to retries, with the replies that the clients got. */
  async check(): Promise<void> {
    const { wishes, told } = this
    assert.equal(told.size, wishes.size, 'a request was never decided')
    const remote = connect<typeof till>(this.#url)
    try {
      // A token covers only its own request; those before have long been applied.
      const after = [...told.values()].slice(-500).map(({ token }) => token)
      const seen = {
        tills: await remote.scan('tills', {}, { after }),
        towns: await remote.scan('towns'),
      }
      assert.deepEqual(seen, expected({ wishes, told }))
      const ids = [...told.keys()]
      for (let i = 0; i < 500; i++) {
        const { id, type, input } = wishes.get(ids[Math.floor(this.#random() * ids.length)]!)!
        const { replayed, ...outcome } = await remote.submit(type, input as never, { requestId: id })
        assert.equal(replayed, true)
        assert.deepEqual(outcome, told.get(id))
      }
    } finally {
      await remote.close()
    }
  }

  async #live(number: number): Promise<void> {
    const random = this.#random
    const below = (n: number) => Math.floor(random() * n)
    const hence = client<typeof till>({
      url: this.#url,
      outbox: memory(),
      backoff: { firstMs: 5, mostMs: 100 },
      timeoutMs: 5_000,
      random,
    })
    this.#clients.push(hence)
    hence.on('retrying', ({ problem }) => {
      this.counts.retries++
      this.problems.add(problem?.code ?? 'no code')
    })
    for (let made = 0; !this.#isOver; made++) {
      const id = `c${number}-${made}`
      const into = `till ${below(12)}`
      const wish: Wish =
        random() < 0.2
          ? { id, type: 'empty', input: { till: into } }
          : { id, type: 'pay', input: { till: into, town: `town ${below(7)}`, cents: 1 + below(200) } }
      this.wishes.set(id, wish)
      const begun = performance.now()
      const reply = await hence.submit(wish.type, wish.input as never, { requestId: id })
      this.counts.longestMs = Math.max(this.counts.longestMs, Math.round(performance.now() - begun))
      const { replayed, ...outcome } = reply
      if (replayed) this.counts.replayed++
      const now = performance.now()
      this.counts.silentMsMax = Math.max(this.counts.silentMsMax, Math.round(now - this.#heardAt))
      this.#heardAt = now
      this.told.set(id, outcome as Reply)
      this.#heard?.()
      if (this.#pauseMs > 0) await pause(this.#pauseMs)
    }
  }
}
