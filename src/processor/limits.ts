import { failedKey, type HenceError, operatorError } from '../failure.ts'
import type { Interruption, InterruptionCode } from '../sandbox/timed.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import type { Processor } from './processor.ts'

/** How long one derivation may take by default, in milliseconds. */
export const derivationMsDefault = 5_000

/** A record that was derived before may take this many times the limit: the machine may be slower or busy. */
export const decidedTimes = 10

/** A group of records should take 1 / `part` of its limit. */
const part = 20
const groupMax = 4_096

/** Chooses how many records to apply under one limit, so that a group takes a small part of it. */
export class GroupSize {
  #records = 16

  get records(): number {
    return this.#records
  }

  /**
   * Applies a group of records under one limit, in a turn of the event loop.
   * @param ms how long they may take together
   * @throws Interruption, with the position of the record that was being derived
   */
  async apply(processor: Processor, count: number, ms: number, act: () => void): Promise<void> {
    const tookMs = await withinLimit(ms, act)
    if (tookMs === undefined) throw processor.interruption()
    if (count < this.#records && tookMs < ms / part) return
    const wanted = Math.floor((count * ms) / part / Math.max(tookMs, 0.01))
    this.#records = Math.max(1, Math.min(wanted, 4 * count, groupMax))
  }
}

/** The error for a record that cannot be derived within the limits and that nothing may rule on. */
export function cannotDerive(
  { code, at, derivation }: Pick<Interruption, 'code' | 'at' | 'derivation'>,
  why: string,
): HenceError {
  const what = derivation === undefined ? '' : ` (${derivation.type} ${failedKey(derivation.key)})`
  const where = at === undefined ? 'A record' : `Record ${at.partition}:${at.offset}${what}`
  return operatorError(code, `${where} cannot be derived: ${exceeded[code]}. ${why}`)
}

/** How messages say which limit was exceeded. */
export const exceeded: Readonly<Record<InterruptionCode, string>> = {
  'derivation-too-long': 'its derivation did not end in time',
  'derivation-too-large': 'processes that derived it ran out of memory',
  'derivation-too-deep': 'its derivation used up the stack',
}
