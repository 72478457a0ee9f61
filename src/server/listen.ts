import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { operatorError } from '../failure.ts'
import type { Limits } from './limits.ts'

export interface Listening {
  readonly host: string
  readonly port: number
  /** Its address: `http://127.0.0.1:8080`. */
  readonly url: string
}

/**
 * An HTTP listener that slow and idle clients cannot fill: heads and bodies must arrive in time, and at the
 * limit of connections a new one replaces the one that has kept the server waiting for longest.
 */
export class Listener {
  readonly #server: Server
  /** Connections without a request, the longest idle first. */
  readonly #idle = new Set<Socket>()
  /** Connections that have sent a part of a request, the longest waited for first. */
  readonly #sending = new Set<Socket>()
  #count = 0
  #handle: (request: IncomingMessage, response: ServerResponse) => void
  #listening: Listening | undefined

  constructor(handle: (request: IncomingMessage, response: ServerResponse) => void, limits: Limits) {
    this.#handle = handle
    this.#server = createServer({
      maxHeaderSize: limits.headBytes,
      headersTimeout: limits.headMs,
      // Bodies are timed where they are read: a batch may take longer than a single request.
      requestTimeout: 0,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: Math.min(1_000, limits.headMs),
    })
    // No byte in either direction for this long: the client does not read its answer.
    this.#server.timeout = limits.stalledMs + 2 * limits.heartbeatMs
    this.#server.on('connection', (socket) => this.#admit(socket, limits.connections))
    this.#server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request
      this.#idle.delete(socket)
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        this.#sending.add(socket)
        request.on('end', () => this.#sending.delete(socket))
      }
      response.on('close', () => {
        this.#sending.delete(socket)
        if (!socket.destroyed) this.#idle.add(socket)
      })
      this.#handle(request, response)
    })
  }

  /** Requests to come are handled by another. */
  handleBy(handle: (request: IncomingMessage, response: ServerResponse) => void): void {
    this.#handle = handle
  }

  /** Begins to listen; returns the first address where it has begun already. */
  async open(host: string, port: number): Promise<Listening> {
    if (this.#listening) return this.#listening
    const server = this.#server
    await new Promise<void>((resolve, reject) => {
      const refused = (error: Error) => reject(notListening(host, port, error))
      server.once('error', refused)
      server.listen({ host, port, backlog: 1_024 }, () => {
        server.off('error', refused)
        resolve()
      })
    })
    const { address, port: bound, family } = server.address() as AddressInfo
    const url = `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
    this.#listening = { host, port: bound, url }
    return this.#listening
  }

  /** Accepts no new connections, and ends those without a request under way. */
  stop(): void {
    this.#server.close()
    this.#server.closeIdleConnections()
  }

  /** Resolves when the last connection has ended; those that do not end in time are cut off. */
  async end(ms: number): Promise<void> {
    if (this.#count === 0) return
    await new Promise<void>((resolve) => {
      const cut = setTimeout(() => this.#server.closeAllConnections(), ms)
      const check = setInterval(() => {
        this.#server.closeIdleConnections()
        if (this.#count > 0) return
        clearInterval(check)
        clearTimeout(cut)
        resolve()
      }, 5)
    })
  }

  #admit(socket: Socket, max: number): void {
    if (this.#count >= max) {
      const longest = this.#idle.values().next().value ?? this.#sending.values().next().value
      if (longest === undefined) {
        socket.destroy()
        return
      }
      longest.destroy()
      this.#forget(longest)
    }
    this.#count++
    this.#idle.add(socket)
    socket.once('close', () => {
      this.#count--
      this.#forget(socket)
    })
  }

  #forget(socket: Socket): void {
    this.#idle.delete(socket)
    this.#sending.delete(socket)
  }
}

const notListening = (host: string, port: number, cause: Error) =>
  operatorError(
    'listen-failed',
    `The server cannot listen on ${host}, port ${port}: ${cause.message}. Choose another port, or end the ` +
      'process that uses it.',
    { cause },
  )
