import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

export const effectStates = ['pending', 'done', 'dead'] as const

type EffectsQuery = {
  readonly state: Parameter<(typeof effectStates)[number]>
  readonly type: Parameter<string | undefined>
  readonly limit: Parameter<number>
}

/** `GET /effects`: effects in a state, the oldest first. */
export async function effects(
  { engine }: Serving,
  { request, query }: Arrival<EffectsQuery>,
): Promise<Answer> {
  const { type, ...rest } = query
  const found = await engine.effects.list({ ...rest, ...(type !== undefined && { type }) })
  return jsonAnswer(request, { effects: found })
}

/** `GET /effects/{id}`: one effect, with the tries of this process. */
export async function effect({ engine }: Serving, { request, parts: [id] }: Arrival): Promise<Answer> {
  const found = await engine.effects.get(id!)
  if (found !== undefined) return jsonAnswer(request, found)
  throw new HenceError(
    'effect-not-found',
    'change',
    `There is no effect ${JSON.stringify(id)}, or it was done long ago.`,
  )
}
