import type { Server } from '../server/server.ts'
import type { HandClock } from './hand-clock.ts'
import type { Draw } from './random.ts'
import type { SimulatedProcess } from './simulated-machine.ts'

export interface RunningServer {
  readonly process: SimulatedProcess
  readonly server: Server
}

/** Longer than any operation takes, unless its process has died. */
const answerMsMax = 60_000

export type SimulatedNetwork = ReturnType<typeof simulatedNetwork>

/** @param serving returns the server, if one listens */
export function simulatedNetwork(draw: Draw, clock: HandClock, serving: () => RunningServer | undefined) {
  const network = {
    /** The share of messages that are lost, and of those that are doubled, and of those that are late. */
    share: 0,
    /** Like `fetch`. */
    exchange(url: string, init: RequestInit): Promise<Response> {
      const { promise: cut, reject } = Promise.withResolvers<never>()
      clock.after(answerMsMax, () => reject(new Error('no answer')))
      init.signal!.addEventListener('abort', () => reject(init.signal!.reason))
      return Promise.race([carry(url, init), cut])
    },
  }
  const isDisturbed = () => draw.chance(network.share)

  async function carry(url: string, init: RequestInit): Promise<Response> {
    await travel()
    if (isDisturbed()) clock.after(draw.below(2_000), () => void arrive(url, init).catch(() => {}))
    const answer = await arrive(url, init)
    await travel()
    return answer
  }

  /** @throws if the message is lost */
  async function travel(): Promise<void> {
    const ms = draw.below(isDisturbed() ? 5_000 : 10)
    await new Promise<void>((resolve) => clock.after(ms, resolve))
    if (isDisturbed()) throw new Error('connection reset')
  }

  async function arrive(url: string, init: RequestInit): Promise<Response> {
    const running = serving()
    if (running === undefined) throw new Error('connection refused')
    const { process, server } = running
    const answer = await process.operate('request', () => server.fetch(new Request(url, init)))
    const text = await answer.text()
    return process.operate('answer', () => new Response(text, answer))
  }

  return network
}
