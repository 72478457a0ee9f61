import type { EffectState } from '../effect/outbox.ts'
import { changeError } from '../failure.ts'
import type { KeyedClaim, KeyedViolation } from '../query/judged.ts'
import { type Answer, freshAnswer, jsonAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import { allows } from './caller.ts'
import { expandPreviews } from './expand.ts'
import { cursorInvalid, makeCursor, pageOf, readCursor } from './page.ts'
import { choice, cursorAfter, integer, text } from './parameter.ts'
import { type Arrival, type Route, route } from './route.ts'
import type { Serving } from './serving.ts'

/** The answer of `GET /violations/{key}/{id}`. */
export interface ViolationView {
  readonly violation: KeyedViolation
  /** The limit at its key, without its margin, and the units claimed. */
  readonly limit: number
  readonly claimed: number
  /** The first claims in the order in which they give way. */
  readonly claims: readonly KeyedClaim[]
}

const claimsMax = 200

export function operatorRoutes(serving: Serving): readonly Route[] {
  const { effects, violations } = serving.engine
  return [
    route('POST /previews/:type', 'operate', 'preview', 'The consequences that a decision would have', {
      body: { type: 'application/json', schema: {} },
      json: forms.preview,
      expand: expandPreviews,
      problems: [404, 422],
      handle: (arrival) => preview(serving, arrival),
    }),
    route(
      'GET /violations/:key/:id',
      'operate',
      'violation',
      'A violation, and the claims that may give way',
      {
        problems: [404],
        async handle({ request, parts }) {
          const [key, id] = parts as [string, string]
          const violation = await violations.get(key, id)
          if (violation === undefined) {
            throw changeError(
              'violation-not-found',
              `There is no violation ${JSON.stringify(id)} at ${JSON.stringify(key)}, or it was resolved long ago.`,
            )
          }
          const { limit, claimed } = await violations.usage(violation.constraint, key)
          const claims = await violations.claims(violation.constraint, key, { limit: claimsMax })
          return jsonAnswer(request, { violation, limit, claimed, claims } satisfies ViolationView)
        },
      },
    ),
    route('GET /effects', 'operate', 'effects', 'Effects in a state, the oldest first', {
      query: {
        state: choice(['pending', 'done', 'dead'], 'pending', 'Their state.'),
        type: text('Only effects of this type.'),
        limit: integer(1, 1_000, 100, 'How many a page has at most.'),
        cursor: cursorAfter,
      },
      async handle({ request, query: { state, type, limit, cursor } }) {
        const from = cursor === undefined ? undefined : effectAt(cursor)
        const page = pageOf<EffectState>(limit, ({ id }) => id === from?.id)
        await effects.list({ state, type, from, limit: Number.POSITIVE_INFINITY, until: page.ends })
        return page.answer(request, 'effects', ({ type, at, id }) => makeCursor([type, at, id]))
      },
    }),
    route('GET /effects/:id', 'operate', 'effect', 'One effect, with its tries', {
      problems: [404],
      async handle({ request, parts: [id] }) {
        const found = await effects.get(id!)
        if (found !== undefined) return jsonAnswer(request, found)
        throw changeError(
          'effect-not-found',
          `There is no effect ${JSON.stringify(id)}, or it was done long ago.`,
        )
      },
    }),
  ]
}

/** `POST /previews/{type}`: derives an operator's request, and undoes it. */
async function preview({ engine, bodies, rules }: Serving, arrival: Arrival): Promise<Answer> {
  const { request, incoming, caller } = arrival
  const { principal } = caller
  const input = await bodies.json({ request, incoming, principal })
  const made = await engine.preview(arrival.parts[0] as never, input as never, { principal })
  const visible = rules.changes(caller, 'row')
  const isReader = allows(caller, 'read')
  const steps = await rules.limited('a preview', () =>
    made.steps.map(({ changes, events, ...step }) => ({
      ...step,
      changes: changes.flatMap((change) => visible(change) ?? []),
      events: isReader ? events : events.map(({ type, key }) => ({ type, key })),
    })),
  )
  return freshAnswer({ ...made, steps })
}

function effectAt(cursor: string): Pick<EffectState, 'type' | 'at' | 'id'> {
  const [type, at, id] = readCursor(cursor, {})
  if (typeof type !== 'string' || typeof at !== 'number' || typeof id !== 'string') throw cursorInvalid()
  return { type, at, id }
}
