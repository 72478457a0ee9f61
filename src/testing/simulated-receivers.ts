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

type Given = Readonly<Record<string, Handler | Delivery>>

/** The receivers of effects. They outlive every process of the engine, and do an effect once under its id. */
export function simulatedReceivers(draw: Draw, given: Given, broken: (error: unknown) => void) {
  const receivers = {
    done: new Map<string, SimulatedDelivery>(),
    /** The share of calls that do not arrive, and of answers that are lost. */
    share: 0,
    handlersOf(process: SimulatedProcess): Readonly<Record<string, Delivery>> {
      return Object.fromEntries(
        Object.entries(given).map(([type, each]) => {
          const { deliver, ...more }: Delivery = typeof each === 'function' ? { deliver: each } : each
          const received = (call: Call) => receive(process, call, deliver)
          return [type, { delayMs: 50, delayMsMax: 60_000, ...more, deliver: received }]
        }),
      )
    },
  }

  async function receive(process: SimulatedProcess, call: Call, deliver: Handler): Promise<unknown> {
    if (draw.chance(receivers.share)) throw new Error('the receiver did not answer')
    const { id, type, input } = call
    const done = await process.operate(`effect ${id}`, async () => {
      const before = receivers.done.get(id)
      if (before !== undefined) {
        try {
          assert.deepEqual(input, before.input, `the effect ${id} was sent with two contents`)
        } catch (error) {
          broken(error)
        }
        return before
      }
      const made = { id, type, input, result: await deliver(call) }
      receivers.done.set(id, made)
      return made
    })
    if (draw.chance(receivers.share)) throw new Error('the answer of the receiver was lost')
    return process.operate(`answer of ${id}`, () => done.result)
  }

  return receivers
}
