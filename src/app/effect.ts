import { checkName } from './name.ts'
import type { OutputOf, Schema } from './schema.ts'

/**
 * Something done to the outside world. A derivation only says that it shall be done; a handler, which is no part
 * of the pure module, does it.
 */
export interface Effect<
  Name extends string = string,
  // biome-ignore-start lint/suspicious/noExplicitAny: an effect of any kind is what "any effect" means here.
  Input = any,
  Result = any,
  // biome-ignore-end lint/suspicious/noExplicitAny: as above.
> {
  readonly kind: 'effect'
  readonly name: Name
  readonly input: Schema<unknown, Input>
  /** What its handler gives back; undefined when it gives nothing. */
  readonly output: Schema<unknown, Result> | undefined
  /** It was done: react to it with `scope.on(charge.result, …)`. */
  readonly result: EffectMessage<Name, 'result', { id: string; input: Input; result: Result }>
  /** It was given up after its last try, and waits for an operator: `scope.on(charge.dead, …)`. */
  readonly dead: EffectMessage<Name, 'dead', { id: string; input: Input; error: string }>
}

/**
 * What comes back of an effect. It arrives at the partition key that the effect was asked for under, so any
 * scope may react to it, for the effects of its own keys.
 */
export interface EffectMessage<
  Name extends string = string,
  Part extends 'result' | 'dead' = 'result' | 'dead',
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  Data = any,
> {
  readonly kind: 'effect-message'
  readonly effect: Name
  readonly part: Part
  /** Carries the type only. */
  readonly data?: Data
}

/**
 * Defines a kind of effect: `effect('charge', { input: z.object({ cents: z.int() }), result: z.object({ paid: z.boolean() }) })`.
 * @param definition `result` is what its handler gives back; left out when nothing
 * @throws HenceError `app-invalid` (change) for a bad name
 */
export function effect<const Name extends string, X extends Schema, R extends Schema = Schema<unknown, null>>(
  name: Name,
  definition: { readonly input: X; readonly result?: R },
): Effect<Name, OutputOf<X>, OutputOf<R>> {
  checkName('effect', name)
  return {
    kind: 'effect',
    name,
    input: definition.input as never,
    output: definition.result as never,
    result: { kind: 'effect-message', effect: name, part: 'result' },
    dead: { kind: 'effect-message', effect: name, part: 'dead' },
  }
}
