import { failedKey, type HenceError, operatorError } from '../failure.ts'
import { elapsedMs, type Interruption, type InterruptionCode } from '../sandbox/timed.ts'
import { withinLimit } from '../sandbox/watchdog.ts'
import type { Processor } from './processor.ts'

/** How long one derivation may take by default, in milliseconds. */
export const derivationMsDefault = 5_000

/** A record that was derived before may take this many times the limit: the machine may be slower or busy. */
export const decidedTimes = 10

/** A group of records ends when it has taken 1 / `part` of its limit: only one record alone can exceed it. */
const part = 20
const groupMax = 4_096
/** It ends too when it has changed this part of what a checkpoint saves: the next ones may have to wait for it. */
const checkpointPart = 1 / 4

/**
 * Applies records under one limit, in a turn of the event loop, until they have taken a small part of it, or
 * have changed much.
 * @param count how many there are
 * @param ms how long they may take together
 * @param apply applies the record with this index; false if it has to wait
 * @returns how many were applied
 * @throws Interruption, with the position of the record that was being derived
 */
export async function applyGroup(
  processor: Pick<Processor, 'interruption' | 'checkpointsDirty'>,
  count: number,
  ms: number,
  apply: (index: number) => boolean,
): Promise<number> {
  const most = Math.min(count, groupMax)
  let applied = 0
  const dirty = () => processor.checkpointsDirty(Number.POSITIVE_INFINITY)
  const act = () => {
    const until = elapsedMs() + ms / part
    const full = dirty() + checkpointPart
    while (applied < most && apply(applied)) {
      applied++
      if (elapsedMs() >= until || dirty() >= full) break
    }
  }
  if ((await withinLimit(ms, act)) === undefined) throw processor.interruption()
  return applied
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
