import { connect, type Socket } from 'node:net'

/** An HTTP request: the head without Content-Length, and the body. */
export interface HttpRequest {
  readonly head: string
  readonly body: string
}

/**
 * A kept connection that sends one request at a time and reads each response to its end. It is written by
 * hand, because a client that costs as much as the server would measure itself.
 */
export class KeptConnection {
  readonly #socket: Socket
  #text = ''
  #waiting: { resolve(status: number): void; reject(error: Error): void } | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.setNoDelay(true)
    socket.on('data', (text: string) => {
      this.#text += text
      this.#parse()
    })
    socket.on('close', () => this.#waiting?.reject(new Error('The server has closed the connection.')))
    socket.on('error', (error) => this.#waiting?.reject(error))
  }

  static open(port: number): Promise<KeptConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new KeptConnection(socket)))
      socket.once('error', reject)
    })
  }

  /** Resolves to the status once the whole response has arrived. */
  send({ head, body }: HttpRequest): Promise<number> {
    const promise = new Promise<number>((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
    const length = body === '' ? '' : `content-length: ${Buffer.byteLength(body)}\r\n`
    this.#socket.write(`${head}${length}\r\n${body}`)
    return promise
  }

  close(): void {
    this.#socket.destroy()
  }

  #parse(): void {
    const end = this.#text.indexOf('\r\n\r\n')
    if (end === -1) return
    const length = Number(/\ncontent-length: *(\d+)/i.exec(this.#text.slice(0, end))?.[1])
    if (Number.isNaN(length)) throw new Error('The response has no Content-Length.')
    if (this.#text.length < end + 4 + length) return
    const status = Number(this.#text.slice(9, 12))
    this.#text = this.#text.slice(end + 4 + length)
    const waiting = this.#waiting!
    this.#waiting = undefined
    waiting.resolve(status)
  }
}
