import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Serving } from './serving.ts'

/** `GET /audit/head`: the newest signed tree head. */
export async function head({ engine }: Serving, request: Request): Promise<Answer> {
  return jsonAnswer(request, await engine.audit.head())
}

/** `GET /audit/consistency?from=3,0`: proof that the log has only grown since a head of these sizes, by partition. */
export async function consistency(
  { engine }: Serving,
  request: Request,
  query: URLSearchParams,
): Promise<Answer> {
  const from = query.get('from') ?? ''
  if (/^\d{1,15}(,\d{1,15})*$/.test(from))
    return jsonAnswer(request, await engine.audit.consistency(from.split(',').map(Number)))
  throw new HenceError(
    'head-sizes-invalid',
    'change',
    'The query parameter `from` must be the sizes in the earlier head, by partition, with commas between: from=3,0.',
  )
}
