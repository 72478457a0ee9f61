import { changeError } from '../failure.ts'
import type { Story, StoryCorrection } from '../query/story.ts'
import { type Answer, jsonAnswer } from './answer.ts'
import { allows, type Caller } from './caller.ts'
import { principal } from './json-schema.ts'
import { text } from './parameter.ts'
import type { Arrival } from './route.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'

export const senderQuery = {
  principal: text('Whose request it is, for callers with the permission read.', principal),
}

/** The most bytes of the steps of a story. */
const storyBytes = 8 * 1024 * 1024

/** `GET /requests/{id}`: everything that followed from a request; with `read`, of any principal. */
export async function story(serving: Serving, arrival: Arrival<typeof senderQuery>): Promise<Answer> {
  const { request, caller } = arrival
  const requestId = arrival.parts[0]!
  const found = await serving.engine.story(requestId, {
    principal: senderOf(arrival),
    bytesMax: storyBytes,
  })
  if (found === undefined) throw requestNotFound(requestId)
  const visible = serving.rules.changes(caller, 'row')
  const shown = await serving.rules.limited('a story', () => {
    const steps = found.steps.map((step) => ({
      ...step,
      changes: step.changes.flatMap((change) => visible(change) ?? []),
    }))
    return allows(caller, 'read') ? { ...found, steps } : redacted({ ...found, steps }, caller)
  })
  return jsonAnswer(request, shown)
}

/**
 * The principal whose request is meant: the caller, unless another one is asked for.
 * @throws HenceError `not-allowed` (change) for another one without the permission `read`
 */
export function senderOf({ caller, query }: Arrival<typeof senderQuery>): string {
  const { principal = caller.principal } = query
  if (principal !== caller.principal && !allows(caller, 'read')) {
    throw notAllowed('read', 'requests of others')
  }
  return principal
}

export const requestNotFound = (requestId: string) =>
  changeError(
    'request-not-found',
    `No request of this sender with the id ${JSON.stringify(requestId)} is decided, or its id is past the window.`,
  )

/**
 * The part of a story that its sender may see without `read`. Hidden, because they concern others: the keys
 * and data of events, why a reaction failed, who approved a correction, replies of others.
 */
function redacted(found: Story, caller: Caller): object {
  return {
    ...found,
    replies: found.replies.filter(({ principal }) => principal === caller.principal),
    steps: found.steps.map(
      ({ token, at, kind, type, key, changes, events, effects, failure, correction }) => ({
        token,
        at,
        kind,
        type,
        ...(kind === 'request' && { key }),
        changes,
        events: events.map((event) => ({ type: event.type })),
        effects: effects.map(({ id, type, state }) => ({ id, type, state })),
        ...(failure && { failure: { code: failure.code } }),
        ...(correction && { correction: withoutApproval(correction) }),
      }),
    ),
  }
}

function withoutApproval(correction: StoryCorrection): object {
  const { number, at } = correction.promotion
  const promotion = { number, at }
  if (correction.kind === 'effect') return { promotion, kind: 'effect', effect: correction.effect }
  const { kind, before, after } = correction
  return { promotion, kind, before, after }
}
