import type { Reply } from '../app/index.ts'
import type { SubmitOptions } from '../app/service.ts'
import type { RedriveInput } from '../derivation/operator.ts'
import type { EffectState, EffectsQuery } from '../effect/outbox.ts'
import type { Attempts } from '../effect/tries.ts'
import type { RequestPath } from './request-path.ts'

/** The effects that an app asked for. */
export interface Effects {
  /** The oldest first within a type. */
  list(options?: EffectsQuery): Promise<EffectState[]>
  /** One effect by its id, and the attempts of this process that failed. */
  get(id: string): Promise<(EffectState & { readonly attempts?: Attempts }) | undefined>
  /** Delivers an effect that was given up again. This is a request like any other. */
  redrive(
    input: RedriveInput,
    options: SubmitOptions,
  ): Promise<Reply<null, 'effect-unknown' | 'effect-not-dead' | 'effect-may-repeat'>>
}

export function effectsOf(path: RequestPath): Effects {
  return {
    async list({ state = 'pending', limit = 100, ...more } = {}) {
      return (await path.settled()).reader.effects({ state, limit, ...more })
    },
    async get(id) {
      const effect = (await path.settled()).reader.effect(id)
      const attempts = effect && path.delivery.attempts(effect.type, id)
      return effect && (attempts === undefined ? effect : { ...effect, attempts })
    },
    redrive: (input, options) => path.submit('hence:redrive', input, options) as Promise<never>,
  }
}
