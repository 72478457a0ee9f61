import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Serving } from './serving.ts'

export const effectStates = ['pending', 'done', 'dead'] as const

/** `GET /effects`: effects in a state, the oldest first. */
export async function effects(
  { engine }: Serving,
  request: Request,
  {
    state,
    type,
    limit,
  }: {
    readonly state: (typeof effectStates)[number]
    readonly type: string | undefined
    readonly limit: number
  },
): Promise<Answer> {
  const found = await engine.effects.list({ state, limit, ...(type !== undefined && { type }) })
  return jsonAnswer(request, { effects: found })
}

/** `GET /effects/{id}`: one effect, with the tries of this process. */
export async function effect({ engine }: Serving, request: Request, id: string): Promise<Answer> {
  const found = await engine.effects.get(id)
  if (found !== undefined) return jsonAnswer(request, found)
  throw new HenceError(
    'effect-not-found',
    'change',
    `There is no effect ${JSON.stringify(id)}, or it was done long ago.`,
  )
}
