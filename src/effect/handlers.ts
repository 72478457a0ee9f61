import type { App, Effect, EffectName, EffectNamed, Frozen } from '../app/index.ts'
import { changeError } from '../failure.ts'

/** One try of an effect, as its handler gets it. */
export interface Call<Input = unknown> {
  /** The name of the effect. */
  readonly type: string
  readonly input: Frozen<Input>
  /** The effect's id, the same for every try, also after a crash: the receiver's idempotency key. */
  readonly id: string
  /** 1 for the first try. Tries are remembered across restarts, unless the derived state was lost. */
  readonly attempt: number
  /** Log time at which the derivation asked for it, in milliseconds since 1970. */
  readonly at: number
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  /** The partition key of the derivation that asked for it. */
  readonly key: string
  /** Aborts when the try takes too long or the engine closes. Work done after that does not count. */
  readonly signal: AbortSignal
}

/**
 * Does an effect. It is called until it returns; its return value becomes the effect's result. If it throws,
 * it is called again later, and not before the error's `retryAfterMs` if it has one. If it throws a
 * `HenceError` with the advice `change`, the effect is given up at once.
 */
export type Handler<Input = unknown, Result = unknown> = (call: Call<Input>) => Promise<Result> | Result

/** How effects of one type are delivered. */
export interface DeliveryOptions {
  /** How many at once. Default 16. */
  readonly concurrency?: number
  /** How many tries may begin in a second. Default: no limit. */
  readonly perSecond?: number
  /** After how many tries an effect is given up. Default 20: with the delays below, about a day. */
  readonly triesMax?: number
  /**
   * The delay after the first try, in milliseconds; it doubles with each try, and a random part of it is
   * waited, at least 1 ms. Default 1,000.
   */
  readonly delayMs?: number
  /** The longest delay, in milliseconds. Default two hours. */
  readonly delayMsMax?: number
  /** How long one try may take, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number
  /**
   * How long the receiver remembers ids, in milliseconds. An effect whose first try may be older than that,
   * for example because this process was down, is given up instead of done twice. Default: no limit.
   */
  readonly idsKeptMs?: number
  /**
   * `key`: effects of one partition key are delivered one after the other, in the order in which they were
   * asked for; the next begins when the one before is done or given up. Default `none`.
   */
  readonly order?: 'none' | 'key'
}

/** A handler and how it is called. */
export interface Delivery<Input = unknown, Result = unknown> extends DeliveryOptions {
  readonly deliver: Handler<Input, Result>
}

type EffectInput<E> = E extends Effect<string, infer I> ? I : never
/** The type of the result of an effect. */
export type EffectResult<E> = E extends Effect<string, infer _I, infer R> ? R : never
type DeliveryOf<E> = Handler<EffectInput<E>, ReturnOf<E>> | Delivery<EffectInput<E>, ReturnOf<E>>
/** An effect without a result accepts any return value. */
type ReturnOf<E> = null extends EffectResult<E> ? unknown : EffectResult<E>

/** One handler for each effect of an app, and no others. */
export type Handlers<A extends App> = {
  readonly [N in EffectName<A>]: DeliveryOf<EffectNamed<A, N>>
}

/**
 * The module that touches the world: `export default handlers<typeof shop>({ email: … })`. A missing or a
 * surplus handler is a type error.
 */
export function handlers<A extends App>(all: Handlers<A>): Handlers<A> {
  return all
}

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

/** The options of a delivery, with the defaults. */
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
