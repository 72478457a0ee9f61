import { changeError } from '../failure.ts'
import type { Caller } from './caller.ts'

export interface IdentifiedCaller {
  readonly caller: Caller
  /** Whether it still holds without asking again. */
  isCurrent(): boolean
}

type Identify = () => IdentifiedCaller | Promise<IdentifiedCaller>

/** The caller of a request while it lasts: a key or a session may be revoked during a batch or a stream. */
export class Access {
  readonly #identify: Identify
  readonly #check: (caller: Caller) => void
  #identity: IdentifiedCaller
  #renewing: Promise<IdentifiedCaller> | undefined

  /** @param check throws if the caller may not use the route */
  constructor(identify: Identify, check: (caller: Caller) => void, identity: IdentifiedCaller) {
    check(identity.caller)
    this.#identify = identify
    this.#check = check
    this.#identity = identity
  }

  /** The caller when they were last identified. */
  get caller(): Caller {
    return this.#identity.caller
  }

  get isCurrent(): boolean {
    return this.#identity.isCurrent()
  }

  /** Identifies the caller again, unless that is current; throws if they may not use the route any more. */
  async renew(): Promise<Caller> {
    if (this.isCurrent) return this.caller
    this.#renewing ??= Promise.resolve(this.#identify()).finally(() => {
      this.#renewing = undefined
    })
    const identity = await this.#renewing
    if (identity.caller.principal !== this.caller.principal) {
      throw changeError('not-authenticated', 'The session belongs to another principal now.')
    }
    this.#check(identity.caller)
    this.#identity = identity
    return identity.caller
  }

  /** Passes on the parts of an answer while the caller is current. */
  async *guard<Part>(parts: AsyncIterable<Part>): AsyncGenerator<Part> {
    for await (const part of parts) {
      if (!this.isCurrent) await this.renew()
      yield part
    }
  }
}
