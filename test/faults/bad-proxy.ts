import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

/** The faults of one exchange, by stage. */
export const faults = [
  /** The connection is cut before any of the request is passed on. */
  'cut-before',
  /** Half of the request is passed on, then both ends are cut. */
  'cut-inside-request',
  /** The whole request is passed on, and nobody waits for the answer. */
  'cut-after-request',
  /** The server has answered, so the request is in the log; the answer is dropped. */
  'cut-after-append',
  /** Half of the answer comes through. */
  'cut-inside-response',
  /** The request is passed on twice at the same time; one answer comes through. */
  'doubled',
  /** The answer comes through, and the request is passed on once more later. */
  'doubled-later',
  /** The request is delayed for longer than the client waits, and then passed on anyway. */
  'late-request',
  /** The answer does not come for as long as the client waits. */
  'late-response',
  /** The proxy answers by itself, as proxies do. */
  'bad-gateway',
  'login-page',
  'too-busy',
] as const
export type Fault = (typeof faults)[number]

/**
 * An HTTP proxy that applies a fault to each exchange, with real connections: they are destroyed, and delayed
 * data arrives late. Without a fault it passes everything on.
 */
export class BadProxy {
  readonly counts = new Map<Fault | 'none', number>()
  readonly #agent = new Agent({ keepAlive: true })
  readonly #server = createServer((incoming, response) => void this.#handle(incoming, response))
  readonly #port: number
  readonly #draw: () => Fault | 'none'
  readonly #afterMs: () => number
  readonly #isLate: (request: IncomingMessage) => void
  /** Exchanges that go on after their client has gone. */
  readonly #afterwards = new Set<Promise<unknown>>()

  static async listen(options: {
    /** The port of the server behind it. */
    readonly port: number
    readonly draw: () => Fault | 'none'
    /** How long after its answer a doubled request is passed on once more. */
    readonly afterMs: () => number
    /** The client of this request is to wait no longer. */
    readonly isLate: (request: IncomingMessage) => void
  }): Promise<BadProxy> {
    const proxy = new BadProxy(options)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  private constructor({ port, draw, afterMs, isLate }: Parameters<typeof BadProxy.listen>[0]) {
    this.#port = port
    this.#draw = draw
    this.#afterMs = afterMs
    this.#isLate = isLate
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Stops once all delayed data has arrived. */
  async close(): Promise<void> {
    while (this.#afterwards.size > 0) await Promise.all(this.#afterwards)
    this.#server.close()
    this.#server.closeAllConnections()
    this.#agent.destroy()
    await once(this.#server, 'close')
  }

  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(incoming).catch(() => undefined)
    if (body === undefined) return
    const fault = this.#draw()
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1)
    const done = this.#exchange(fault, incoming, body, response).catch(() => response.destroy())
    this.#afterwards.add(done)
    await done
    this.#afterwards.delete(done)
  }

  async #exchange(fault: Fault | 'none', incoming: IncomingMessage, body: Buffer, response: ServerResponse) {
    const forward = () => this.#forward(incoming, body)
    switch (fault) {
      case 'none':
        return pass(await forward(), response)
      case 'cut-before':
        return response.destroy()
      case 'cut-inside-request':
        await this.#forwardHalf(incoming, body)
        return response.destroy()
      case 'cut-after-request': {
        const answer = forward()
        response.destroy()
        return answer
      }
      case 'cut-after-append':
        await forward()
        return response.destroy()
      case 'cut-inside-response': {
        const answer = await forward()
        response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length })
        response.write(answer.body.subarray(0, answer.body.length / 2), () => response.destroy())
        return undefined
      }
      case 'doubled': {
        const [, second] = await Promise.all([forward(), forward()])
        return pass(second, response)
      }
      case 'doubled-later':
        pass(await forward(), response)
        await new Promise((resolve) => setTimeout(resolve, this.#afterMs()))
        return forward()
      case 'late-request':
        this.#isLate(incoming)
        await gone(response)
        return forward()
      case 'late-response':
        await forward()
        this.#isLate(incoming)
        return gone(response)
      case 'bad-gateway':
        return response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway</h1>')
      case 'login-page':
        return response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Welcome to our network</h1>')
      case 'too-busy':
        return response.writeHead(429, { 'retry-after': '0' }).end()
    }
  }

  #open(incoming: IncomingMessage) {
    const { method, url, headers } = incoming
    const { connection: _, host: __, ...rest } = headers
    return request({
      port: this.#port,
      host: '127.0.0.1',
      method,
      path: url,
      headers: rest,
      agent: this.#agent,
    })
  }

  async #forward(incoming: IncomingMessage, body: Buffer): Promise<Answered> {
    const outgoing = this.#open(incoming)
    outgoing.end(body)
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    const { statusCode, headers } = answer
    const { connection: _, 'transfer-encoding': __, ...rest } = headers
    return { status: statusCode!, headers: rest, body: await buffer(answer) }
  }

  async #forwardHalf(incoming: IncomingMessage, body: Buffer): Promise<void> {
    const outgoing = this.#open(incoming)
    outgoing.on('error', () => {})
    await new Promise<void>((resolve) => {
      outgoing.write(body.subarray(0, body.length / 2), () => resolve())
    })
    outgoing.destroy()
  }
}

interface Answered {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

/** Resolves when the client has ended its connection, for example because it waits no longer. */
async function gone(response: ServerResponse): Promise<void> {
  if (!response.closed) await once(response, 'close')
}

function pass(answer: Answered, response: ServerResponse): void {
  response.writeHead(answer.status, answer.headers)
  response.end(answer.body)
}
