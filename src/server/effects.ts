import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { allows, type Caller } from './caller.ts'
import { jsonAnswer } from './json-answer.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'

const states = ['pending', 'done', 'dead'] as const
const limitMax = 1_000

/** `GET /effects?state=&type=&limit=`: effects in a state, the oldest first; needs `operate`. */
export async function effects(
  { engine }: Serving,
  caller: Caller,
  request: Request,
  query: URLSearchParams,
): Promise<Answer> {
  checkOperates(caller)
  const state = query.get('state') ?? 'pending'
  const type = query.get('type')
  const limit = Number(query.get('limit') ?? 100)
  if (!isState(state) || !Number.isInteger(limit) || limit < 1 || limit > limitMax) {
    throw new HenceError(
      'query-invalid',
      'change',
      `\`state\` must be ${states.join(', ')}, and \`limit\` a whole number from 1 to ${limitMax}.`,
    )
  }
  return jsonAnswer(request, {
    effects: await engine.effects.list({ state, limit, ...(type !== null && { type }) }),
  })
}

/** `GET /effects/{id}`: one effect, with its tries by this process; needs `operate`. */
export async function effect(
  { engine }: Serving,
  caller: Caller,
  request: Request,
  id: string,
): Promise<Answer> {
  checkOperates(caller)
  const found = await engine.effects.get(id)
  if (found !== undefined) return jsonAnswer(request, found)
  throw new HenceError(
    'effect-not-found',
    'change',
    `There is no effect ${JSON.stringify(id)}, or it was done long ago.`,
  )
}

function checkOperates(caller: Caller): void {
  if (!allows(caller, 'operate')) throw notAllowed('operate', 'effects')
}

function isState(text: string): text is (typeof states)[number] {
  return (states as readonly string[]).includes(text)
}
