import { HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'

/** Carries messages to another process, and delivers them in the order in which they were sent. */
export interface RpcTransport {
  send(message: unknown): void
  receive(listener: (message: unknown) => void): void
}

/** The functions of one side. Parameters and results must survive a structured clone. */
// biome-ignore lint/suspicious/noExplicitAny: every function has parameters of its own.
export type RpcFunctions = { readonly [name: string]: (...values: any[]) => unknown }

type RpcMessage =
  | { readonly call: string; readonly id: number; readonly values: readonly unknown[] }
  | { readonly reply: number; readonly value?: unknown; readonly error?: RpcError }

interface RpcError {
  readonly name: string
  readonly message: string
  readonly code?: string
  readonly advice?: HenceError['advice']
}

/** Remote procedure calls between two processes, both ways; a call rejects with the other side's error. */
export class RpcConnection<Remote extends RpcFunctions> {
  readonly #transport: RpcTransport
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>()
  #nextId = 0
  #lost: Error | undefined

  constructor(transport: RpcTransport, local: RpcFunctions) {
    this.#transport = transport
    transport.receive((message) => void this.#receive(message as RpcMessage, local))
  }

  get pendingCount(): number {
    return this.#pending.size
  }

  call<Name extends string & keyof Remote>(
    name: Name,
    ...values: Parameters<Remote[Name]>
  ): Promise<Awaited<ReturnType<Remote[Name]>>> {
    if (this.#lost) return Promise.reject(this.#lost)
    const id = this.#nextId++
    const pending = Promise.withResolvers<unknown>()
    this.#pending.set(id, pending)
    this.#transport.send({ call: name, id, values } satisfies RpcMessage)
    return pending.promise as Promise<Awaited<ReturnType<Remote[Name]>>>
  }

  /** Rejects all pending calls; later calls are made as usual. */
  abandon(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }

  /** The other process is gone: rejects all pending and all later calls, always with the first error given. */
  lose(error: Error): void {
    this.#lost ??= error
    this.abandon(this.#lost)
  }

  async #receive(message: RpcMessage, local: RpcFunctions): Promise<void> {
    if ('call' in message) {
      const { call, id, values } = message
      let reply: RpcMessage
      try {
        reply = { reply: id, value: await local[call]!(...values) }
      } catch (error) {
        reply = { reply: id, error: encodeError(error) }
      }
      if (this.#lost === undefined) this.#transport.send(reply)
      return
    }
    // A reply to a call that was abandoned finds nothing here.
    const pending = this.#pending.get(message.reply)
    this.#pending.delete(message.reply)
    if (message.error) pending?.reject(decodeError(message.error))
    else pending?.resolve(message.value)
  }
}

function encodeError(error: unknown): RpcError {
  const known = error instanceof HenceError ? error : fileFailure(error)
  if (known !== undefined) {
    const { name, message, code, advice } = known
    return { name, message, code, advice }
  }
  return error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: '', message: `${error}` }
}

function decodeError({ name, message, code, advice }: RpcError): Error {
  if (code !== undefined && advice !== undefined) return new HenceError(code, advice, message)
  return Object.assign(new Error(message), { name })
}
