import type { Answer } from './answer.ts'
import type { Caller } from './caller.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Serving } from './serving.ts'
import { requestNotFound, senderOf } from './story.ts'

/** `GET /requests/{id}/receipt`: proof that a request is in the log; of others' with `read`, as for stories. */
export async function receipt(
  { engine }: Serving,
  caller: Caller,
  request: Request,
  requestId: string,
  query: URLSearchParams,
): Promise<Answer> {
  const given = await engine.audit.receipt(requestId, { principal: senderOf(caller, query) })
  if (given === undefined) throw requestNotFound(requestId)
  return jsonAnswer(request, given)
}
