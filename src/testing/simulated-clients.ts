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
export function simulatedClients(
  count: number,
  draw: Draw,
  clock: HandClock,
  { network, note, broken }: ClientsHost,
) {
  const outboxes = Array.from({ length: count }, () => memory())
  const opened: Client<App>[] = []
  const clients = {
    requests: [] as { -readonly [K in keyof SimulatedRequest]: SimulatedRequest[K] }[],
    /** Outcomes of requests that had one before. */
    retries: 0,
    /** Makes a client, which goes on with what its outbox holds. */
    open(index: number): void {
      const made = client<App>({
        url: 'http://simulated',
        outbox: outboxes[index]!,
        headers: { 'simulated-client': nameOf(index) },
        fetch: (url, init) => network.exchange(url as string, init!),
        clock: { now: () => clock.now(), timer: (ms, act) => clock.after(ms, act) },
        random: draw.random,
        timeoutMs: 2 ** 31 - 1,
      })
      made.on('decided', ({ reply }: { readonly reply: Reply }) => decided(reply))
      made.on('refused', ({ type, input, error }) => {
        const sent = `${nameOf(index)} sent ${JSON.stringify([type, input])}`
        broken(new Error(`${sent}, and it was refused: ${error.message}`, { cause: error }))
      })
      opened[index] = made
    },
    send(index: number, queue: string, [type, input]: readonly [string, unknown]): void {
      const random = Buffer.from(Array.from({ length: 16 }, () => draw.below(256)))
      const requestId = v7({ msecs: clock.now(), random })
      const request = { client: nameOf(index), requestId, type, input }
      clients.requests.push(request)
      submit(index, request, queue)
    },
    sendAgain(nth: number): void {
      const request = clients.requests[nth]
      if (request === undefined) return
      const index = opened.findIndex((_, index) => nameOf(index) === request.client)
      submit(index, request, 'again')
    },
    close: (index: number) => opened[index]!.close(),
    closeAll(): void {
      for (const each of opened) void each.close()
    },
  }

  function submit(index: number, { requestId, type, input }: SimulatedRequest, queue: string): void {
    // Replies arrive as events, also those that a later client gets.
    opened[index]!.submit(type as never, input as never, { requestId, queue }).catch(() => {})
  }

  function decided({ replayed: _, token: __, ...reply }: Reply): void {
    note(`decided ${JSON.stringify(reply)}`)
    const request = clients.requests.find(({ requestId }) => requestId === reply.requestId)!
    if (request.reply === undefined) {
      request.reply = reply as Reply
      return
    }
    clients.retries++
    try {
      assert.deepEqual(reply, request.reply, `a retry of ${reply.requestId} got another outcome`)
    } catch (error) {
      broken(error)
    }
  }

  for (const index of outboxes.keys()) clients.open(index)
  return clients
}

const nameOf = (index: number): string => `client-${index}`
