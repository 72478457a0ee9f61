import type { App, Effect, EffectName, EffectNamed, Frozen } from '../app/index.ts'

/** What a handler is given to do. */
export interface Call<Input = unknown> {
  /** The name of the effect. */
  readonly type: string
  readonly input: Frozen<Input>
  /** Names the effect: the same for every try, after a crash too. Hand it to the receiver as its idempotency key. */
  readonly id: string
  /** 1 for the first try of this process. */
  readonly attempt: number
  /** When it was asked for: log time, in milliseconds since 1970. */
  readonly at: number
  /** The request that it follows from. */
  readonly requestId: string
  readonly principal: string
  /** The partition key that it was asked for under. */
  readonly key: string
  /** Aborts when the try takes too long, or the engine closes; what is still done after it counts as not done. */
  readonly signal: AbortSignal
}

/**
 * Does an effect. It is called until it returns; what it returns comes back to the app as the effect's result. When it
 * throws it is called again later, and not before the milliseconds that the error has as `retryAfterMs`, where it
 * has; unless it throws a `HenceError` with the advice `change`: then the effect is given up at once.
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
  /** The delay after the first try, in milliseconds; it doubles with each one, and a random part of it is taken, of a millisecond at least. Default 1,000. */
  readonly delayMs?: number
  /** The longest delay, in milliseconds. Default two hours. */
  readonly delayMsMax?: number
  /** How long one try may take, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number
  /**
   * How long the receiver keeps the ids of what it has done, in milliseconds. An effect that may have been tried longer
   * ago than that, since this process was down meanwhile, say, is given up instead of done twice. Default: no limit.
   */
  readonly idsKeptMs?: number
}

/** A handler with how it is to be called. */
export interface Delivery<Input = unknown, Result = unknown> extends DeliveryOptions {
  readonly deliver: Handler<Input, Result>
}

type InputOf<E> = E extends Effect<string, infer I> ? I : never
type ResultOf<E> = E extends Effect<string, infer _I, infer R> ? R : never
type DeliveryOf<E> = Handler<InputOf<E>, ReturnOf<E>> | Delivery<InputOf<E>, ReturnOf<E>>
/** An effect without a result takes whatever its handler gives back. */
type ReturnOf<E> = null extends ResultOf<E> ? unknown : ResultOf<E>

/** A handler for every effect of an app, and for nothing else. */
export type Handlers<A extends App> = {
  readonly [N in EffectName<A>]: DeliveryOf<EffectNamed<A, N>>
}

/**
 * The module that touches the world: `export default handlers<typeof shop>({ email: … })`. A handler that is missing, or
 * one too many, is a type error.
 */
export function handlers<A extends App>(all: Handlers<A>): Handlers<A> {
  return all
}
