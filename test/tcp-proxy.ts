import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A line on loopback that can be cut and held. */
export class TcpProxy {
  readonly port: number
  readonly #server
  readonly #pairs = new Set<readonly [client: Socket, server: Socket]>()
  #held = false
  #refusing = false

  /** @param to a port on loopback, or the path of a socket */
  static async listen(to: () => number | string): Promise<TcpProxy> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new TcpProxy(server, to)
  }

  private constructor(server: ReturnType<typeof createServer>, to: () => number | string) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (client) => {
      if (this.#refusing) return client.destroy()
      const target = to()
      const behind = typeof target === 'string' ? connect(target) : connect(target, '127.0.0.1')
      const pair = [client, behind] as const
      this.#pairs.add(pair)
      for (const [from, to] of [pair, [behind, client] as const]) {
        if (this.#held) from.pause()
        from.on('data', (data) => to.write(data))
        from.on('error', () => {})
        from.on('close', () => {
          to.destroy()
          this.#pairs.delete(pair)
        })
      }
    })
  }

  /** Ends every connection at once, in the middle of whatever goes over it. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
  }

  /** Passes nothing on, in one direction or both, and keeps the connections. */
  hold(direction: 'both' | 'answers' = 'both'): void {
    this.#held = direction === 'both'
    for (const [client, server] of this.#pairs) {
      if (direction === 'both') client.pause()
      server.pause()
    }
  }

  /** Ends every connection, and each that comes. */
  refuse(): void {
    this.#refusing = true
    this.cut()
  }

  /** Passes everything on again. */
  release(): void {
    this.#held = false
    this.#refusing = false
    for (const pair of this.#pairs) for (const socket of pair) socket.resume()
  }

  async close(): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }
}
