import { HenceError } from '../failure.ts'

/** Whatever carries messages to another process, in their order. */
export interface Wire {
  send(message: unknown): void
  receive(listener: (message: unknown) => void): void
}

/** What one side lets the other call; values must survive a structured clone. */
// biome-ignore lint/suspicious/noExplicitAny: every call has parameters of its own.
export type Calls = { readonly [name: string]: (...values: any[]) => unknown }

type Message =
  | { readonly call: string; readonly id: number; readonly values: readonly unknown[] }
  | { readonly reply: number; readonly value?: unknown; readonly error?: SentError }

/** An error on its way. */
interface SentError {
  readonly name: string
  readonly message: string
  readonly code?: string
  readonly advice?: HenceError['advice']
}

/** Calls between two processes: what a call resolves to, or throws, comes back to its caller. */
export class Peer<Theirs extends Calls> {
  readonly #wire: Wire
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #calls = 0
  #lost: Error | undefined

  constructor(wire: Wire, ours: Calls) {
    this.#wire = wire
    wire.receive((message) => void this.#receive(message as Message, ours))
  }

  /** How many calls have no reply yet. */
  get waitingCount(): number {
    return this.#waiting.size
  }

  call<Name extends string & keyof Theirs>(
    name: Name,
    ...values: Parameters<Theirs[Name]>
  ): Promise<Awaited<ReturnType<Theirs[Name]>>> {
    if (this.#lost) return Promise.reject(this.#lost)
    const id = this.#calls++
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(id, waiting)
    this.#wire.send({ call: name, id, values } satisfies Message)
    return waiting.promise as Promise<Awaited<ReturnType<Theirs[Name]>>>
  }

  /** Whoever waits for a reply is told why there will be none. */
  abandon(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }

  /** The other side is gone: whoever calls it from now on is told why, too. */
  lose(error: Error): void {
    this.#lost ??= error
    this.abandon(this.#lost)
  }

  async #receive(message: Message, ours: Calls): Promise<void> {
    if ('call' in message) {
      const { call, id, values } = message
      let reply: Message
      try {
        reply = { reply: id, value: await ours[call]!(...values) }
      } catch (error) {
        reply = { reply: id, error: sent(error) }
      }
      // Nobody waits for it any more.
      if (this.#lost === undefined) this.#wire.send(reply)
      return
    }
    const waiting = this.#waiting.get(message.reply)
    this.#waiting.delete(message.reply)
    if (message.error) waiting?.reject(received(message.error))
    else waiting?.resolve(message.value)
  }
}

function sent(error: unknown): SentError {
  if (error instanceof HenceError) {
    const { name, message, code, advice } = error
    return { name, message, code, advice }
  }
  return error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: '', message: `${error}` }
}

function received({ name, message, code, advice }: SentError): Error {
  if (code !== undefined && advice !== undefined) return new HenceError(code, advice, message)
  return Object.assign(new Error(message), { name })
}
