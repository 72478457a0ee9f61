import { HenceError } from '../failure.ts'
import type { Answer } from './answer.ts'
import { jsonAnswer } from './json-answer.ts'
import type { Parameter } from './parameter.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'

const sizesForm = /^\d{1,15}(,\d{1,15})*$/

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
  read([given = '']) {
    if (sizesForm.test(given)) return given.split(',').map(Number)
    throw sizesInvalid()
  },
}

/** `GET /audit/consistency`: proof that the log has only grown since a head of these sizes. */
export async function consistency(
  { engine }: Serving,
  { request, query }: Arrival<{ from: typeof headSizes }>,
): Promise<Answer> {
  return jsonAnswer(request, await engine.audit.consistency(query.from))
}

function sizesInvalid(): HenceError {
  return new HenceError(
    'head-sizes-invalid',
    'change',
    'The query parameter `from` must be the sizes in the earlier head, by partition, separated by commas: from=3,0.',
  )
}
