import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { requestNotFound, type SenderQuery, senderOf } from './story.ts'

const sizesForm = /^\d{1,15}(,\d{1,15})*$/

/** `GET /requests/{id}/receipt`: proof that a request is in the log; with `read` for requests of others too. */
export async function receipt({ engine }: Serving, arrival: Arrival<SenderQuery>): Promise<Answer> {
  const requestId = arrival.parts[0]!
  const found = await engine.audit.receipt(requestId, { principal: senderOf(arrival) })
  if (found === undefined) throw requestNotFound(requestId)
  return jsonAnswer(arrival.request, found)
}

/** `GET /audit/head`: the newest signed tree head. */
export async function head({ engine }: Serving, { request }: Arrival): Promise<Answer> {
  return jsonAnswer(request, await engine.audit.head())
}

/** The sizes in a head, by partition: `from=3,0`. */
export const headSizes: Parameter<readonly number[]> = {
  schema: { type: 'string', pattern: sizesForm.source },
  description: 'The sizes in the earlier head, by partition, separated by commas.',
  isRequired: true,
  isRepeatable: false,
  read([given = ''], name) {
    if (sizesForm.test(given)) return given.split(',').map(Number)
    throw new HenceError(
      'head-sizes-invalid',
      'change',
      `The query parameter \`${name}\` must be the sizes in the earlier head, by partition, separated by commas: ` +
        'from=3,0.',
    )
  },
}

/** `GET /audit/consistency`: proof that the log has only grown since a head of these sizes. */
export async function consistency(
  { engine }: Serving,
  { request, query }: Arrival<{ from: typeof headSizes }>,
): Promise<Answer> {
  return jsonAnswer(request, await engine.audit.consistency(query.from))
}
