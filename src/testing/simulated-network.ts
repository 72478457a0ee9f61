import type { Server } from '../server/server.ts'
import type { HandClock } from './hand-clock.ts'
import type { Draw } from './random.ts'
import type { SimulatedProcess } from './simulated-machine.ts'

/** A server and the process that it runs in. */
export interface RunningServer {
  readonly process: SimulatedProcess
  readonly server: Server
}

/** Longer than any operation takes, unless its process has died. */
const answerMsMax = 60_000

/** The network between clients and a server. */
export class SimulatedNetwork {
  /** The share of messages that are lost, and of those that are doubled, and of those that are late. */
  share = 0
  readonly #draw: Draw
  readonly #clock: HandClock
  readonly #serving: () => RunningServer | undefined

  /** @param serving returns the server, if one listens */
  constructor(draw: Draw, clock: HandClock, serving: () => RunningServer | undefined) {
    this.#draw = draw
    this.#clock = clock
    this.#serving = serving
  }

  /** Like `fetch`. */
  exchange(url: string, init: RequestInit): Promise<Response> {
    const { promise: cut, reject } = Promise.withResolvers<never>()
    this.#clock.after(answerMsMax, () => reject(new Error('no answer')))
    init.signal!.addEventListener('abort', () => reject(init.signal!.reason))
    return Promise.race([this.#carry(url, init), cut])
  }

  async #carry(url: string, init: RequestInit): Promise<Response> {
    await this.#travel()
    if (this.#isDisturbed()) {
      this.#clock.after(this.#draw.below(2_000), () => void this.#arrive(url, init).catch(() => {}))
    }
    const answer = await this.#arrive(url, init)
    await this.#travel()
    return answer
  }

  /** @throws if the message is lost */
  async #travel(): Promise<void> {
    const ms = this.#draw.below(this.#isDisturbed() ? 5_000 : 10)
    await new Promise<void>((resolve) => this.#clock.after(ms, resolve))
    if (this.#isDisturbed()) throw new Error('connection reset')
  }

  async #arrive(url: string, init: RequestInit): Promise<Response> {
    const serving = this.#serving()
    if (serving === undefined) throw new Error('connection refused')
    const { process, server } = serving
    const answer = await process.operate('request', () => server.fetch(new Request(url, init)))
    const text = await answer.text()
    return process.operate('answer', () => new Response(text, answer))
  }

  #isDisturbed(): boolean {
    return this.#draw.chance(this.share)
  }
}
