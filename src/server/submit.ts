import type { Enqueued, Reply } from '../app/index.ts'
import { isSystemMessage } from '../app/name.ts'
import { shown } from '../failure.ts'
import { type Answer, freshAnswer } from './answer.ts'
import { allows, type Caller } from './caller.ts'
import { idIn, requestIdOf } from './idempotency-key.ts'
import type { Metrics } from './metrics.ts'
import { problemAnswer, problemOfOutcome } from './problem.ts'
import type { Arrival } from './route.ts'
import { notAllowed } from './row-rules.ts'
import type { Serving } from './serving.ts'

const jsonForm = /^application\/([\w.+-]+\+)?json *(;|$)/i

/** `POST /requests/{type}`: the body is the input, the header Idempotency-Key the id. */
export async function submit(serving: Serving, metrics: Metrics, arrival: Arrival): Promise<Answer> {
  const start = performance.now()
  const { request, access, incoming } = arrival
  const type = arrival.parts[0]!
  checkMaySend(access.caller, type)
  const { headers } = request
  const requestId = requestIdOf(headers)
  const inReplyTo = idIn(headers, 'Hence-In-Reply-To')
  const { principal } = access.caller
  const input = await serving.bodies.json({ request, incoming, principal }, jsonForm)
  // The body may have taken longer than the key or session lasted.
  if (!access.isCurrent) checkMaySend(await access.renew(), type)
  const options = { requestId, principal, inReplyTo }
  const { engine } = serving
  const answer = prefersAsync(headers.get('prefer'))
    ? accepted(serving, await engine.enqueue(type as never, input as never, options))
    : replyAnswer(await engine.submit(type as never, input as never, options))
  metrics.submitted(performance.now() - start)
  return answer
}

/** Whether the header Prefer (RFC 7240) asks for `respond-async`. Some clients take it back by a weight of 0. */
function prefersAsync(header: string | null): boolean {
  if (header === null) return false
  const preferences = header
    .replace(/"((?:[^"\\]|\\.)*)"/g, (_, content) => (/^0(\.0*)?$/.test(content) ? content : '""'))
    .split(',')
  const found = preferences.find((each) => /^\s*respond-async\s*(;|$)/i.test(each))
  return found !== undefined && !/;\s*q\s*=\s*0(\.0*)?\s*(;|$)/i.test(found)
}

/** System requests, which decide about violations and effects, take the permission `operate`. */
export function checkMaySend(caller: Caller, type: string): void {
  const permission = isSystemMessage(type) ? 'operate' : (`submit:${type}` as const)
  if (!allows(caller, permission)) throw notAllowed(shown(permission), `requests of type "${shown(type)}"`)
}

function replyAnswer(reply: Reply): Answer {
  const { token, replayed } = reply
  const headers = replayed
    ? { 'hence-token': token, 'hence-outcome': reply.status, 'idempotent-replayed': 'true' }
    : { 'hence-token': token, 'hence-outcome': reply.status }
  if (reply.status !== 'accepted') return problemAnswer(problemOfOutcome(reply), headers)
  const { requestId, status, value, corrected } = reply
  return freshAnswer({ requestId, status, value, token, replayed, corrected }, headers)
}

function accepted({ path }: Serving, { requestId, token }: Enqueued): Answer {
  const headers = {
    'hence-token': token,
    'preference-applied': 'respond-async',
    location: `${path}/requests/${encodeURIComponent(requestId)}`,
  }
  return freshAnswer({ requestId, token }, headers, 202)
}
