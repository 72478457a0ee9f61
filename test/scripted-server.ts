import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

/** A request that a scripted server received. */
export interface Asked {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** The id in the header Idempotency-Key, without its quotes. */
  readonly id: string
}

/** An answer, or something else to do with the connection. */
export type Script =
  | {
      readonly status: number
      readonly body: unknown
      readonly headers?: Readonly<Record<string, string>>
      readonly type?: string
    }
  | ((response: ServerResponse) => void)

/** A real HTTP server with scripted answers, for answers that a correct server would not give. */
export class ScriptedServer {
  readonly asked: Asked[] = []
  readonly #server = createServer((request, response) => void this.#handle(request, response))
  #answer: (asked: Asked) => Script | Promise<Script>

  static async listen(answer: (asked: Asked) => Script | Promise<Script>): Promise<ScriptedServer> {
    const server = new ScriptedServer(answer)
    server.#server.listen(0, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  private constructor(answer: (asked: Asked) => Script | Promise<Script>) {
    this.#answer = answer
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/hence`
  }

  answer(answer: (asked: Asked) => Script | Promise<Script>): void {
    this.#answer = answer
  }

  async close(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request
    const id = String(headers['idempotency-key'] ?? '').replace(/^"|"$/g, '')
    const asked = { method, path: url.replace(/^\/hence/, ''), headers, body: await text(request), id }
    this.asked.push(asked)
    const script = await this.#answer(asked)
    if (typeof script === 'function') return script(response)
    const { status, body, type = 'application/json' } = script
    response.writeHead(status, { 'content-type': type, ...script.headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}

export const cut: Script = (response) => response.destroy()

export function accepted(asked: Asked, value: unknown = null, token = '0:0'): Script {
  return { status: 200, body: { requestId: asked.id, status: 'accepted', value, token, replayed: false } }
}

export function problem(
  status: number,
  code: string,
  advice: string,
  more: object = {},
  headers: Readonly<Record<string, string>> = {},
): Script {
  const body = {
    type: `urn:hence:error:${code}`,
    title: code,
    status,
    detail: `It is ${code}.`,
    code,
    advice,
  }
  return { status, body: { ...body, ...more }, type: 'application/problem+json', headers }
}
