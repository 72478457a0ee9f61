import { changeError } from '../failure.ts'
import { jsonAnswer } from './answer.ts'
import * as forms from './answer-form.ts'
import type { Parameter } from './parameter.ts'
import { type Route, route } from './route.ts'
import type { Serving } from './serving.ts'

const sizesForm = /^\d{1,15}(,\d{1,15})*$/

const headSizes: Parameter<readonly number[]> = {
  schema: { type: 'string', pattern: sizesForm.source },
  description: 'The sizes in the earlier head, by partition, separated by commas.',
  isRequired: true,
  isRepeatable: false,
  read([given = ''], name) {
    if (sizesForm.test(given)) return given.split(',').map(Number)
    throw changeError(
      'head-sizes-invalid',
      `The query parameter \`${name}\` must be the sizes in the earlier head, by partition, separated by commas: ` +
        'from=3,0.',
    )
  },
}

/** Every caller may check the log. These routes disclose how many records it has, as every receipt does. */
export function auditRoutes({ engine: { audit } }: Serving): readonly Route[] {
  return [
    route('GET /audit/head', 'known', 'head', 'The newest signed tree head of the log', {
      json: forms.head,
      problems: [404],
      handle: async ({ request }) => jsonAnswer(request, await audit.head()),
    }),
    route(
      'GET /audit/consistency',
      'known',
      'consistency',
      'Proof that the log has only grown since a head',
      {
        query: { from: headSizes },
        json: forms.consistency,
        problems: [404, 409],
        handle: async ({ request, query }) => jsonAnswer(request, await audit.consistency(query.from)),
      },
    ),
  ]
}
