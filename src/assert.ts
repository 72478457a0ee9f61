import { operatorError } from './failure.ts'

/**
 * Throws if something that this code relies on does not hold: a bug in Hence, or damage that nothing else has
 * noticed. Arguments are evaluated on every call, so pass a constant text and the values beside it.
 *
 * @param belief completes the sentence "Hence relies on this: …"
 * @throws HenceError `assertion-failed` (operator), so that it stops the engine and never becomes the outcome
 *   of a request
 */
export function assert(holds: boolean, belief: string, actual?: unknown, expected?: unknown): asserts holds {
  if (!holds) throw operatorError('assertion-failed', messageOf(belief, actual, expected))
}

function messageOf(belief: string, actual: unknown, expected: unknown): string {
  const found =
    actual === undefined ? '' : ` Found ${actual}${expected === undefined ? '' : `, expected ${expected}`}.`
  return `Hence relies on this, and it does not hold: ${belief}.${found} This is a bug in Hence, or damage to its data.`
}
