import * as answers from './answer-form.ts'
import { consistency, head, headSizes } from './audit.ts'
import { effect, effectStates, effects } from './effects.ts'
import { closed, object, sha256, text as textSchema } from './json-schema.ts'
import { choice, integer, text } from './parameter.ts'
import * as reprocess from './reprocess.ts'
import { type Route, requestIdHeader, route } from './route.ts'
import type { Serving } from './serving.ts'

/** Routes for operators and administrators, and those that anybody checks the log with. */
export function operatorRoutes(serving: Serving): readonly Route[] {
  return [
    route({
      method: 'GET',
      path: '/effects',
      permission: 'operate',
      id: 'effects',
      summary: 'Effects in a state, the oldest first',
      tag: 'operate',
      query: {
        state: choice(effectStates, 'pending', 'Their state.'),
        type: text('Only effects of this type.'),
        limit: integer(1, 1_000, 100, 'How many at most.'),
      },
      answers: { 200: answers.json('The effects.', object({})), 304: answers.notModified },
      handle: ({ request, query }) => effects(serving, request, query),
    }),
    route({
      method: 'GET',
      path: '/effects/:id',
      permission: 'operate',
      id: 'effect',
      summary: 'One effect, with its tries',
      tag: 'operate',
      answers: { 200: answers.json('The effect.', object({})), 304: answers.notModified },
      problems: [404],
      handle: ({ request, parts }) => effect(serving, request, parts[0]!),
    }),
  ]
}

/** Every caller may check the log. These routes disclose how many records it has, as every receipt does. */
export function auditRoutes(serving: Serving): readonly Route[] {
  return [
    route({
      method: 'GET',
      path: '/audit/head',
      permission: 'known',
      id: 'head',
      summary: 'The newest signed tree head of the log',
      tag: 'audit',
      answers: { 200: answers.json('The head.', answers.head), 304: answers.notModified },
      problems: [404],
      handle: ({ request }) => head(serving, request),
    }),
    route({
      method: 'GET',
      path: '/audit/consistency',
      permission: 'known',
      id: 'consistency',
      summary: 'Proof that the log has only grown between an earlier head and the newest one',
      tag: 'audit',
      query: { from: headSizes },
      answers: {
        200: answers.json('The proof, with the newest head.', answers.consistency),
        304: answers.notModified,
      },
      problems: [404, 409],
      handle: ({ request, query }) => consistency(serving, request, query.from),
    }),
  ]
}

export function reprocessRoutes(serving: Serving): readonly Route[] {
  const post = {
    method: 'POST',
    permission: 'admin',
    tag: 'admin',
    answers: { 200: answers.json('The status of the candidate.', object({})) },
  } as const
  const nothing = { type: 'application/json', schema: closed({}), isChecked: true } as const
  return [
    route({
      method: 'GET',
      path: '/reprocess',
      permission: 'admin',
      id: 'generations',
      summary: 'The live generation, the candidate and its progress, and all promotions and changes of code',
      tag: 'admin',
      answers: { 200: answers.json('The generations.', object({})), 304: answers.notModified },
      handle: ({ request }) => reprocess.generations(serving, request),
    }),
    route({
      ...post,
      path: '/reprocess',
      id: 'reprocess',
      summary: 'Begins to derive everything again with code that the data directory keeps',
      body: {
        type: 'application/json',
        isChecked: true,
        schema: closed({
          version: { ...sha256, description: 'The hash of the bundle.' },
          'share?': {
            type: 'number',
            exclusiveMinimum: 0,
            maximum: 1,
            description: 'The share of time it may work; all of it if left out.',
          },
          'again?': { type: 'boolean', description: 'Even if this code is live.' },
        }),
      },
      problems: [404, 409, 422],
      handle: ({ body }) => reprocess.start(serving, body as never),
    }),
    ...(['pause', 'resume'] as const).map((action) =>
      route({
        ...post,
        path: `/reprocess/${action}`,
        id: `${action}-reprocess`,
        summary: action === 'pause' ? 'Stops until it is resumed' : 'Continues',
        body: nothing,
        problems: [404],
        handle: () => reprocess.pauseOrResume(serving, action),
      }),
    ),
    route({
      ...post,
      path: '/reprocess/discard',
      id: 'discard-reprocess',
      summary: 'Gives up the candidate',
      body: nothing,
      answers: { 204: { description: 'Only the live generation is left.' } },
      problems: [404],
      handle: () => reprocess.discard(serving),
    }),
    route({
      method: 'GET',
      path: '/reprocess/diff',
      permission: 'admin',
      id: 'diff',
      summary: 'How the candidate differs from the live generation',
      tag: 'admin',
      query: { samples: integer(0, 1_000, 5, 'How many differences of each kind the summary holds.') },
      answers: {
        200: {
          description: 'The summary; as application/x-ndjson every difference, one a line.',
          headers: {
            'Hence-Diff': { ...sha256, description: 'With application/x-ndjson: the hash of the diff.' },
          },
          content: { 'application/json': object({}), 'application/x-ndjson': textSchema },
        },
      },
      problems: [404],
      handle: ({ request, query }) => reprocess.diff(serving, request, query.samples),
    }),
    route({
      ...post,
      path: '/reprocess/promote',
      id: 'promote',
      summary: 'Makes the candidate live',
      headers: [requestIdHeader],
      body: {
        type: 'application/json',
        isChecked: true,
        schema: closed({
          diff: { ...sha256, description: 'The hash of the last diff, which was looked at.' },
          'note?': textSchema,
        }),
      },
      answers: { 200: answers.json('The promotion.', object({})) },
      problems: [404, 409, 410, 422],
      handle: ({ request, body }, caller) => reprocess.promote(serving, caller, request, body as never),
    }),
  ]
}
