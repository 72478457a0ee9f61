import { HenceError } from '../failure.ts'
import type { Story, StoryCorrection } from '../query/story.ts'
import type { Answer } from './answer.ts'
import { allows, type Caller } from './caller.ts'
import { jsonAnswer } from './json-answer.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'

/** `GET /requests/{id}`: all that became of a request. With `read` of anybody's, by `?principal=`. */
export async function story(
  serving: Serving,
  caller: Caller,
  request: Request,
  requestId: string,
  query: URLSearchParams,
): Promise<Answer> {
  const principal = senderOf(caller, query)
  const told = await serving.engine.story(requestId, { principal })
  if (told === undefined) throw requestNotFound(requestId)
  const reads = allows(caller, 'read')
  return jsonAnswer(request, reads ? forReader(serving, caller, told) : redacted(serving, caller, told))
}

/**
 * Whose request it is about: the caller's own, unless they say otherwise and may.
 * @throws HenceError `not-allowed` (change)
 */
export function senderOf(caller: Caller, query: URLSearchParams): string {
  const principal = query.get('principal') ?? caller.principal
  if (principal !== caller.principal && !allows(caller, 'read'))
    throw notAllowed('read', 'requests of others')
  return principal
}

export function requestNotFound(requestId: string): HenceError {
  return new HenceError(
    'request-not-found',
    'change',
    `No request of this sender with the id ${JSON.stringify(requestId)} is decided, or its id is past the window.`,
  )
}

/** All of it, but for violations, which are for operators. */
function forReader({ rules }: Serving, caller: Caller, told: Story): object {
  const steps = told.steps.map((step) => ({
    ...step,
    changes: step.changes.flatMap((change) => rules.change(caller, change) ?? []),
  }))
  return { ...told, steps }
}

/**
 * What the sender of a request may see of it without `read`: the changed rows that are theirs, and when it was corrected. What was
 * told to other keys, and under which, is other people's business, and so are why a reaction there failed, and who approved
 * a correction.
 */
function redacted({ rules }: Serving, caller: Caller, told: Story): object {
  return {
    ...told,
    steps: told.steps.map(
      ({ token, at, kind, type, key, changes, events, effects, failure, correction }) => ({
        token,
        at,
        kind,
        type,
        ...(kind === 'request' && { key }),
        changes: changes.flatMap((change) => rules.change(caller, change) ?? []),
        events: events.map((event) => ({ type: event.type })),
        effects: effects.map(({ id, type, state }) => ({ id, type, state })),
        ...(failure && { failure: { code: failure.code } }),
        ...(correction && { correction: ownPart(correction) }),
      }),
    ),
  }
}

function ownPart(correction: StoryCorrection): object {
  const { number, at } = correction.promotion
  const promotion = { number, at }
  if (correction.kind === 'effect') return { promotion, kind: 'effect', effect: correction.effect }
  const { kind, before, after } = correction
  return { promotion, kind, before, after }
}
