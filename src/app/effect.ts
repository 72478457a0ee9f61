import { checkName } from './name.ts'
import type { OutputOf, Schema } from './schema.ts'

/** An action on the outside world: a derivation requests it, a handler outside the module performs it. */
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
  /** The schema of the value that its handler returns; undefined when the handler returns nothing. */
  readonly output: Schema<unknown, Result> | undefined
  /** The handler succeeded: react with `scope.on(charge.result, …)`. */
  readonly result: EffectMessage<Name, 'result', { id: string; input: Input; result: Result }>
  /** The last try failed and the effect waits for an operator: react with `scope.on(charge.dead, …)`. */
  readonly dead: EffectMessage<Name, 'dead', { id: string; input: Input; error: string }>
}

/**
 * The result of an effect, or its failure. It arrives at the partition key whose derivation requested the
 * effect, so every scope may react to the effects of its keys.
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
  /** For the type checker; never set. */
  readonly data?: Data
}

/**
 * Defines a kind of effect:
 * `effect('charge', { input: z.object({ cents: z.int() }), result: z.object({ paid: z.boolean() }) })`.
 * @param definition `result` is the schema of what its handler returns; omit it when the handler returns
 *   nothing
 * @throws HenceError `app-invalid` (change) for an invalid name
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
