import assert from 'node:assert/strict'
import type { Call, Delivery, Handler } from '../effect/handlers.ts'
import type { Draw } from './random.ts'
import type { SimulatedProcess } from './simulated-machine.ts'

/** An effect that its receiver has done. Sent again under its id, it is not done again. */
export interface SimulatedDelivery {
  readonly id: string
  readonly type: string
  readonly input: unknown
  readonly result: unknown
}

/** The receivers of effects. They outlive every process of the engine, and do an effect once under its id. */
export class SimulatedReceivers {
  readonly done = new Map<string, SimulatedDelivery>()
  /** The share of calls that do not arrive, and of answers that are lost. */
  share = 0
  readonly #draw: Draw
  readonly #given: Readonly<Record<string, Handler | Delivery>>
  readonly #broken: (error: unknown) => void

  constructor(
    draw: Draw,
    given: Readonly<Record<string, Handler | Delivery>>,
    broken: (error: unknown) => void,
  ) {
    this.#draw = draw
    this.#given = given
    this.#broken = broken
  }

  handlersOf(process: SimulatedProcess): Readonly<Record<string, Delivery>> {
    return Object.fromEntries(
      Object.entries(this.#given).map(([type, given]) => {
        const { deliver, ...more }: Delivery = typeof given === 'function' ? { deliver: given } : given
        const received = (call: Call) => this.#receive(process, call, deliver)
        return [type, { delayMs: 50, delayMsMax: 60_000, ...more, deliver: received }]
      }),
    )
  }

  async #receive(process: SimulatedProcess, call: Call, deliver: Handler): Promise<unknown> {
    if (this.#draw.chance(this.share)) throw new Error('the receiver did not answer')
    const { id, type, input } = call
    const done = await process.operate(`effect ${id}`, async () => {
      const before = this.done.get(id)
      if (before !== undefined) {
        try {
          assert.deepEqual(input, before.input, `the effect ${id} was sent with two contents`)
        } catch (error) {
          this.#broken(error)
        }
        return before
      }
      const made = { id, type, input, result: await deliver(call) }
      this.done.set(id, made)
      return made
    })
    if (this.#draw.chance(this.share)) throw new Error('the answer of the receiver was lost')
    return process.operate(`answer of ${id}`, () => done.result)
  }
}
