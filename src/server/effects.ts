import type { EffectState } from '../effect/outbox.ts'
import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { cursorInvalid, makeCursor, readCursor } from './cursor.ts'
import { jsonAnswer } from './json-answer.ts'
import { Page } from './page.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

export const effectStates = ['pending', 'done', 'dead'] as const

type EffectPageQuery = {
  readonly state: Parameter<(typeof effectStates)[number]>
  readonly type: Parameter<string | undefined>
  readonly limit: Parameter<number>
  readonly cursor: Parameter<string | undefined>
}

/** `GET /effects`: effects in a state, the oldest first. */
export async function effects(
  { engine }: Serving,
  { request, query }: Arrival<EffectPageQuery>,
): Promise<Answer> {
  const { state, type, limit, cursor } = query
  const from = cursor === undefined ? undefined : effectAt(cursor)
  const page = new Page<EffectState>(limit, ({ id }) => id === from?.id)
  await engine.effects.list({ state, type, from, limit: Number.POSITIVE_INFINITY, until: page.ends })
  return page.answer(request, 'effects', ({ type, at, id }) => makeCursor([type, at, id]))
}

/** The effect that a cursor names. */
function effectAt(cursor: string): Pick<EffectState, 'type' | 'at' | 'id'> {
  const [type, at, id] = readCursor(cursor, {})
  if (typeof type !== 'string' || typeof at !== 'number' || typeof id !== 'string') throw cursorInvalid()
  return { type, at, id }
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
