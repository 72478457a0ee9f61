import { changeError } from '../failure.ts'
import type { DeliveryOptions } from './handlers.ts'

const timeoutMsMax = 2 ** 31 - 1

const defaults = {
  concurrency: 16,
  perSecond: Number.POSITIVE_INFINITY,
  triesMax: 20,
  delayMs: 1_000,
  delayMsMax: 2 * 60 * 60 * 1000,
  timeoutMs: 30_000,
  idsKeptMs: Number.POSITIVE_INFINITY,
  order: 'none',
} as const satisfies Required<DeliveryOptions>

/** The smallest value that each option may have. */
const least: Required<Omit<DeliveryOptions, 'order'>> = {
  concurrency: 1,
  perSecond: Number.MIN_VALUE,
  triesMax: 1,
  delayMs: 0,
  delayMsMax: 0,
  timeoutMs: 1,
  idsKeptMs: 0,
}

/**
 * The options of a delivery, with the defaults.
 * @throws HenceError `option-invalid` (change)
 */
export function deliveryOptionsOf(effect: string, given: DeliveryOptions): Required<DeliveryOptions> {
  const options = { ...defaults, ...given }
  if (options.order !== 'none' && options.order !== 'key') {
    throw changeError(
      'option-invalid',
      `\`order\` of the effect "${effect}" is ${JSON.stringify(options.order)}; it must be "none" or "key".`,
    )
  }
  for (const name of Object.keys(least) as (keyof typeof least)[]) {
    const value: unknown = options[name]
    const isEnough = typeof value === 'number' && value >= least[name]
    if (isEnough && (name !== 'timeoutMs' || value <= timeoutMsMax)) continue
    throw changeError(
      'option-invalid',
      `\`${name}\` of the effect "${effect}" is ${value}; it must be a number from ${least[name]} on` +
        `${name === 'timeoutMs' ? ` to ${timeoutMsMax}` : ''}.`,
    )
  }
  return options
}
