import type { Answer } from './answer.ts'
import type { Caller } from './caller.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Serving } from './serving.ts'
import { requestNotFound, senderOf } from './story.ts'

/** `GET /requests/{id}/receipt`: proof that a request is in the log; with `read` for requests of others too. */
export async function receipt(
  { engine }: Serving,
  caller: Caller,
  request: Request,
  requestId: string,
  principal: string | undefined,
): Promise<Answer> {
  const found = await engine.audit.receipt(requestId, { principal: senderOf(caller, principal) })
  if (found === undefined) throw requestNotFound(requestId)
  return jsonAnswer(request, found)
}
