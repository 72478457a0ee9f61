import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { requestNotFound, type SenderQuery, senderOf } from './story.ts'

/** `GET /requests/{id}/receipt`: proof that a request is in the log; with `read` for requests of others too. */
export async function receipt({ engine }: Serving, arrival: Arrival<SenderQuery>): Promise<Answer> {
  const requestId = arrival.parts[0]!
  const found = await engine.audit.receipt(requestId, { principal: senderOf(arrival) })
  if (found === undefined) throw requestNotFound(requestId)
  return jsonAnswer(arrival.request, found)
}
