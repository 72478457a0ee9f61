import assert from 'node:assert/strict'
import { v7 } from 'uuid'
import type { App, Reply } from '../app/index.ts'
import { type Client, client } from '../client/client.ts'
import { memory } from '../client/memory.ts'
import type { HandClock } from './hand-clock.ts'
import type { Draw } from './random.ts'
import type { SimulatedNetwork } from './simulated-network.ts'

/** A request that a client has sent, and its outcome once it is known. */
export interface SimulatedRequest {
  readonly client: string
  readonly requestId: string
  readonly type: string
  readonly input: unknown
  readonly reply?: Reply
}

interface ClientsHost {
  readonly network: SimulatedNetwork
  note(what: string): void
  broken(error: unknown): void
}

/** Clients, whose outboxes outlive them. They know the time as it is. */
export class SimulatedClients {
  readonly requests: { -readonly [K in keyof SimulatedRequest]: SimulatedRequest[K] }[] = []
  /** Outcomes of requests that had one before. */
  retries = 0
  readonly #draw: Draw
  readonly #clock: HandClock
  readonly #host: ClientsHost
  readonly #outboxes
  readonly #clients: Client<App>[] = []

  constructor(count: number, draw: Draw, clock: HandClock, host: ClientsHost) {
    this.#draw = draw
    this.#clock = clock
    this.#host = host
    this.#outboxes = Array.from({ length: count }, () => memory())
    for (const index of this.#outboxes.keys()) this.open(index)
  }

  /** Makes a client, which goes on with what its outbox holds. */
  open(index: number): void {
    const made = client<App>({
      url: 'http://simulated',
      outbox: this.#outboxes[index]!,
      headers: { 'simulated-client': nameOf(index) },
      fetch: (url, init) => this.#host.network.exchange(url as string, init!),
      clock: { now: () => this.#clock.now(), timer: (ms, act) => this.#clock.after(ms, act) },
      random: this.#draw.random,
      timeoutMs: 2 ** 31 - 1,
    })
    made.on('decided', ({ reply }: { readonly reply: Reply }) => this.#decided(reply))
    made.on('refused', ({ type, input, error }) => {
      const sent = `${nameOf(index)} sent ${JSON.stringify([type, input])}`
      this.#host.broken(new Error(`${sent}, and it was refused: ${error.message}`, { cause: error }))
    })
    this.#clients[index] = made
  }

  send(index: number, queue: string, [type, input]: readonly [string, unknown]): void {
    const random = Buffer.from(Array.from({ length: 16 }, () => this.#draw.below(256)))
    const requestId = v7({ msecs: this.#clock.now(), random })
    const request = { client: nameOf(index), requestId, type, input }
    this.requests.push(request)
    this.#submit(index, request, queue)
  }

  /** Sends the n-th request once more, under its id. */
  sendAgain(nth: number): void {
    const request = this.requests[nth]
    if (request === undefined) return
    const index = this.#clients.findIndex((_, index) => nameOf(index) === request.client)
    this.#submit(index, request, 'again')
  }

  close(index: number): Promise<void> {
    return this.#clients[index]!.close()
  }

  closeAll(): void {
    for (const each of this.#clients) void each.close()
  }

  #submit(index: number, { requestId, type, input }: SimulatedRequest, queue: string): void {
    // Replies arrive as events, also those that a later client gets.
    this.#clients[index]!.submit(type as never, input as never, { requestId, queue }).catch(() => {})
  }

  #decided({ replayed: _, token: __, ...reply }: Reply): void {
    this.#host.note(`decided ${JSON.stringify(reply)}`)
    const request = this.requests.find(({ requestId }) => requestId === reply.requestId)!
    if (request.reply === undefined) {
      request.reply = reply as Reply
      return
    }
    this.retries++
    try {
      assert.deepEqual(reply, request.reply, `a retry of ${reply.requestId} got another outcome`)
    } catch (error) {
      this.#host.broken(error)
    }
  }
}

const nameOf = (index: number): string => `client-${index}`
