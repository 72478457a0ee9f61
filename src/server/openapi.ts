import type { App, Schema } from '../app/index.ts'
import { operatorTables } from '../constraint/tables.ts'
import type { TableShape } from '../state/table.ts'
import { depthMax } from './json.ts'
import type { Limits } from './limits.ts'

type Json = Record<string, unknown>

/**
 * The OpenAPI 3.1 document of an app: a path for every request type and table, with their schemas. A schema library
 * that cannot tell its schemas as JSON Schema (`~standard.jsonSchema`) gives `{}`, with a note.
 */
export function openApi(app: App, path: string, version: string, limits: Limits): Json {
  const paths: Record<string, Json> = {}
  for (const [name, request] of app.requests) {
    paths[`/requests/${name}`] = {
      post: {
        operationId: `submit-${name}`,
        summary: `Sends a request of type ${name}`,
        tags: ['requests'],
        parameters: [idempotencyKey, prefer],
        requestBody: {
          required: true,
          content: { 'application/json': { schema: schemaOf(request.input, 'input', `requests/${name}`) } },
        },
        responses: {
          200: { $ref: '#/components/responses/Accepted' },
          202: { $ref: '#/components/responses/Durable' },
          409: problemRef('Rejected by a rule of the app'),
          ...problems('400', '401', '403', '408', '410', '413', '415', '422', '429', '500', '503'),
        },
      },
    }
  }
  paths['/requests'] = {
    post: {
      operationId: 'submit-batch',
      summary: 'Sends many requests, a line each, and streams their outcomes back in the same order',
      description: `Each line is an object { requestId, type, input } of at most ${limits.bodyBytes} bytes.`,
      tags: ['requests'],
      requestBody: { required: true, content: { 'application/x-ndjson': { schema: { type: 'string' } } } },
      responses: {
        200: {
          description: 'One outcome a line.',
          content: { 'application/x-ndjson': { schema: { type: 'string' } } },
        },
        ...problems('401', '403', '415', '503'),
      },
    },
  }
  paths['/requests/{id}'] = {
    get: {
      operationId: 'story',
      summary: 'All that became of a request',
      tags: ['requests'],
      parameters: [
        { name: 'id', in: 'path', required: true, schema: { type: 'string', minLength: 1, maxLength: 255 } },
        query('principal', { type: 'string' }, 'Whose request it is, for callers with the permission read.'),
      ],
      responses: {
        200: { description: 'The story.', content: { 'application/json': { schema: story } } },
        ...problems('400', '401', '403', '404', '503'),
      },
    },
  }
  paths['/requests/{id}/receipt'] = {
    get: {
      operationId: 'receipt',
      summary: 'Proof that a request is in the log, to be checked with the public key of the log alone',
      tags: ['requests'],
      parameters: [
        { name: 'id', in: 'path', required: true, schema: { type: 'string', minLength: 1, maxLength: 255 } },
        query('principal', { type: 'string' }, 'Whose request it is, for callers with the permission read.'),
      ],
      responses: {
        200: { description: 'The receipt.', content: { 'application/json': { schema: { type: 'object' } } } },
        ...problems('400', '401', '403', '404', '503'),
      },
    },
  }
  Object.assign(paths, auditPaths)
  for (const [name, table] of app.tables) {
    Object.assign(paths, tablePaths(name, table, schemaOf(table.value, 'output', `tables/${name}`)))
  }
  for (const [name, table] of operatorTables) {
    Object.assign(paths, tablePaths(name, table, { type: 'object' }))
  }
  Object.assign(paths, operatorPaths, reprocessPaths)
  paths['/changes'] = {
    get: {
      operationId: 'changes',
      summary: 'Changed rows as server-sent events, resumable by Last-Event-ID',
      tags: ['tables'],
      parameters: [
        {
          name: 'table',
          in: 'query',
          required: false,
          description: 'The tables; without it, all that the caller may read.',
          style: 'form',
          explode: true,
          schema: { type: 'array', items: { enum: [...app.tables.keys(), ...operatorTables.keys()] } },
        },
        query('prefix', { type: 'string' }, 'The first parts of the key, as a JSON list.'),
        query('from', { type: 'string' }, 'The position to go on from; Last-Event-ID comes first.'),
      ],
      responses: {
        200: {
          description: 'The stream.',
          content: { 'text/event-stream': { schema: { type: 'string' } } },
        },
        ...problems('400', '401', '403', '404', '410', '429', '503'),
      },
    },
  }
  return {
    openapi: '3.1.0',
    info: {
      title: app.name,
      version: version.slice(0, 12),
      description:
        'Requests are sent with an id that the client makes and stores; however often one is sent, it is decided once. ' +
        `JSON is taken strictly: no doubled names, no whole numbers beyond 2^53 − 1, at most ${depthMax} levels.`,
    },
    servers: [{ url: path || '/' }],
    security: [{ key: [] }, {}],
    paths,
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } }, ...components },
  }
}

function tablePaths(name: string, table: TableShape, value: Json): Record<string, Json> {
  const kinds = ['string', ...table.parts]
  const row = {
    type: 'object',
    required: ['key', 'value'],
    properties: { key: { type: 'array', prefixItems: kinds.map((type) => ({ type })) }, value },
  }
  const indexes = Object.keys(table.indexes)
  const parts = query('prefix', { type: 'string' }, 'Only rows whose key begins so: a JSON list.')
  const after = query('after', { type: 'string' }, 'A token: the read waits until that request is applied.')
  return {
    [`/tables/${name}`]: {
      get: {
        operationId: `scan-${name}`,
        summary: `Rows of ${name}, a page at a time`,
        tags: ['tables'],
        parameters: [
          ...(indexes.length > 0 ? [query('index', { enum: indexes }, 'Order by these fields.')] : []),
          parts,
          query('from', { type: 'string' }, 'Only rows from here on; a JSON list of parts after the prefix.'),
          query(
            'to',
            { type: 'string' },
            'Only rows up to here, left out; a JSON list of parts after the prefix.',
          ),
          query('reverse', { type: 'boolean' }, 'The last first.'),
          query(
            'limit',
            { type: 'integer', minimum: 1, maximum: 1000, default: 100 },
            'How many rows a page.',
          ),
          query('cursor', { type: 'string' }, 'Where the last page ended.'),
          after,
        ],
        responses: {
          200: {
            description: 'A page; `cursor` where there may be more.',
            content: {
              'application/json': {
                schema: {
                  type: 'object',
                  required: ['rows'],
                  properties: { rows: { type: 'array', items: row }, cursor: { type: 'string' } },
                },
              },
            },
          },
          304: { description: 'As the client has it (If-None-Match).' },
          ...problems('400', '401', '403', '422', '503'),
        },
      },
    },
    [`/tables/${name}/${kinds.map((_, i) => `{key${i}}`).join('/')}`]: {
      get: {
        operationId: `get-${name}`,
        summary: `One row of ${name}`,
        tags: ['tables'],
        parameters: [
          ...kinds.map((type, i) => ({ name: `key${i}`, in: 'path', required: true, schema: { type } })),
          after,
        ],
        responses: {
          200: { description: 'The row.', content: { 'application/json': { schema: row } } },
          304: { description: 'As the client has it (If-None-Match).' },
          ...problems('400', '401', '403', '404', '422', '503'),
        },
      },
    },
  }
}

/** What a Standard Schema tells of itself where its library implements Standard JSON Schema. */
interface JsonSchemaSource {
  readonly jsonSchema?: Readonly<Record<'input' | 'output', (options: { target: string }) => Json>>
}

function schemaOf(schema: Schema, side: 'input' | 'output', id: string): Json {
  const source = (schema['~standard'] as JsonSchemaSource).jsonSchema
  for (const each of side === 'output' ? (['output', 'input'] as const) : (['input'] as const)) {
    try {
      const { $schema: _, ...told } = source![each]({ target: 'draft-2020-12' })
      // References within it count from its own root, which the id makes it have.
      return JSON.stringify(told).includes('"$ref"') ? { $id: `urn:hence:schema:${id}`, ...told } : told
    } catch {
      // The library does not say, or cannot say this one.
    }
  }
  return { description: 'The schema library does not tell this schema as JSON Schema.' }
}

function query(name: string, schema: Json, description: string): Json {
  return { name, in: 'query', required: false, schema, description }
}

const idempotencyKey = {
  name: 'Idempotency-Key',
  in: 'header',
  required: true,
  description:
    'The id of the request, made and stored by the client; a UUID of version 7 is the standard form.',
  schema: { type: 'string', minLength: 1, maxLength: 257 },
}

const prefer = {
  name: 'Prefer',
  in: 'header',
  required: false,
  description: '`respond-async`: answer when the request is durable, without waiting for its outcome.',
  schema: { type: 'string' },
}

function problems(...statuses: string[]): Json {
  return Object.fromEntries(statuses.map((status) => [status, { $ref: '#/components/responses/Problem' }]))
}

function problemRef(description: string): Json {
  return { $ref: '#/components/responses/Problem', description }
}

const components = {
  responses: {
    Accepted: {
      description: 'StoredOutcome: accepted. `replayed` tells whether it had come before.',
      headers: {
        'Hence-Token': { schema: { type: 'string' } },
        'Idempotent-Replayed': { schema: { const: 'true' } },
      },
      content: {
        'application/json': {
          schema: {
            type: 'object',
            required: ['requestId', 'status', 'value', 'token', 'replayed'],
            properties: {
              requestId: { type: 'string' },
              status: { const: 'accepted' },
              value: {},
              token: { type: 'string' },
              replayed: { type: 'boolean' },
            },
          },
        },
      },
    },
    Durable: {
      description: 'Durable; Location leads to what becomes of it.',
      headers: { Location: { schema: { type: 'string' } } },
      content: { 'application/json': { schema: { type: 'object' } } },
    },
    Problem: {
      description: 'An error (RFC 9457).',
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
    },
  },
  schemas: {
    Problem: {
      type: 'object',
      required: ['type', 'title', 'status', 'detail', 'code', 'advice'],
      properties: {
        type: { type: 'string', description: '`urn:hence:error:` and the code.' },
        title: { type: 'string' },
        status: { type: 'integer' },
        detail: { type: 'string' },
        code: { type: 'string' },
        advice: { enum: ['retry', 'change', 'operator'] },
        outcome: {
          enum: ['rejected', 'failed'],
          description: 'The request is decided; a retry gives the same.',
        },
        reason: { type: 'string' },
        details: {},
        requestId: { type: 'string' },
        token: { type: 'string' },
        replayed: { type: 'boolean' },
      },
    },
  },
}

const text = { type: 'string' }
const reason = { type: 'string', minLength: 1 }

const outcome = {
  type: 'object',
  required: ['status'],
  properties: { status: { enum: ['accepted', 'rejected', 'failed'] } },
}

const story = {
  type: 'object',
  required: ['requestId', 'principal', 'type', 'input', 'token', 'at', 'steps'],
  properties: {
    requestId: text,
    principal: text,
    type: text,
    input: {},
    token: text,
    at: { type: 'integer', description: 'Log time, in milliseconds since 1970.' },
    outcome: { ...outcome, description: 'What was told, and still is; left out while it is not decided.' },
    corrected: {
      ...outcome,
      description: 'What the code that is live makes of it, where that differs from what was told.',
    },
    steps: {
      type: 'array',
      items: {
        type: 'object',
        required: ['token', 'at', 'kind', 'type', 'changes', 'events', 'effects'],
        properties: {
          token: text,
          at: { type: 'integer' },
          kind: { enum: ['request', 'event', 'timer', 'result', 'correction'] },
          type: text,
          key: text,
          changes: { type: 'array', items: { type: 'object' } },
          events: { type: 'array', items: { type: 'object' } },
          effects: { type: 'array', items: { type: 'object' } },
          failure: { type: 'object' },
          correction: {
            type: 'object',
            description: 'Of a correction: what was corrected, and the promotion that did it.',
            required: ['promotion', 'kind'],
            properties: {
              kind: { enum: ['outcome', 'effect'] },
              promotion: {
                type: 'object',
                required: ['number', 'at'],
                properties: { number: { type: 'integer' }, at: { type: 'integer' } },
              },
            },
          },
        },
      },
    },
  },
}

const head = {
  type: 'object',
  required: ['format', 'version', 'logId', 'time', 'partitions', 'signature'],
  properties: {
    format: { const: 'hence-head' },
    version: { const: 1 },
    logId: { type: 'string', pattern: '^[0-9a-f]{32}$' },
    time: { type: 'integer', description: 'When it was signed, in milliseconds since 1970.' },
    partitions: {
      type: 'array',
      items: {
        type: 'object',
        required: ['size', 'root'],
        properties: {
          size: { type: 'integer', minimum: 0 },
          root: { type: 'string', pattern: '^[0-9a-f]{64}$' },
        },
      },
    },
    signature: { type: 'string', contentEncoding: 'base64' },
  },
}

/** What anybody who is let in may have, to find out whether the log was changed. */
const auditPaths: Record<string, Json> = {
  '/audit/head': {
    get: {
      operationId: 'head',
      summary: 'The newest signed tree head of the log',
      tags: ['audit'],
      responses: {
        200: { description: 'The head.', content: { 'application/json': { schema: head } } },
        ...problems('401', '403', '404', '503'),
      },
    },
  },
  '/audit/consistency': {
    get: {
      operationId: 'consistency',
      summary: 'Proof that the log has only grown between an earlier head and the newest one',
      tags: ['audit'],
      parameters: [
        {
          ...query('from', text, 'The sizes in the earlier head, by partition, with commas between.'),
          required: true,
        },
      ],
      responses: {
        200: {
          description: 'The proof, with the newest head.',
          content: {
            'application/json': {
              schema: {
                type: 'object',
                required: ['format', 'version', 'from', 'paths', 'head'],
                properties: {
                  format: { const: 'hence-consistency' },
                  version: { const: 1 },
                  from: { type: 'array', items: { type: 'integer', minimum: 0 } },
                  paths: { type: 'array', items: { type: 'array', items: text } },
                  head,
                },
              },
            },
          },
        },
        ...problems('400', '401', '403', '404', '409', '503'),
      },
    },
  },
}

/** What operators may ask, with the permission `operate`. */
const operatorPaths: Record<string, Json> = {
  '/requests/hence:resolve-violation': operatorRequest('Decides about a violation that is open', {
    type: 'object',
    required: ['violation', 'key', 'action', 'reason'],
    properties: {
      violation: { ...reason, description: 'The id of the violation.' },
      key: { ...text, description: 'The partition key that its constraint is judged under.' },
      action: { enum: ['compensate', 'waive', 'raise-limit', 'choose'] },
      units: { type: 'integer', minimum: 1, description: 'With raise-limit: by how much.' },
      victims: {
        type: 'array',
        description: 'With choose: the requests that give way.',
        items: {
          type: 'object',
          required: ['requestId'],
          properties: { requestId: { type: 'string', minLength: 1, maxLength: 255 }, principal: text },
        },
      },
      reason,
    },
  }),
  '/requests/hence:redrive': operatorRequest('Delivers an effect again that was given up', {
    type: 'object',
    required: ['effect', 'key', 'reason'],
    properties: {
      effect: { ...reason, description: 'The id of the effect.' },
      key: { ...text, description: 'The partition key that it was asked for under.' },
      mayRepeat: {
        type: 'boolean',
        description: 'Also when the receiver may have forgotten that it got it.',
      },
      reason,
    },
  }),
  '/effects': {
    get: {
      operationId: 'effects',
      summary: 'Effects in a state, the oldest first',
      tags: ['operate'],
      parameters: [
        query('state', { enum: ['pending', 'done', 'dead'], default: 'pending' }, 'What has become of them.'),
        query('type', text, 'Only effects of this type.'),
        query('limit', { type: 'integer', minimum: 1, maximum: 1000, default: 100 }, 'How many at most.'),
      ],
      responses: {
        200: { description: 'The effects.', content: { 'application/json': { schema: { type: 'object' } } } },
        ...problems('400', '401', '403', '422', '503'),
      },
    },
  },
  '/effects/{id}': {
    get: {
      operationId: 'effect',
      summary: 'One effect, with its tries',
      tags: ['operate'],
      parameters: [{ name: 'id', in: 'path', required: true, schema: text }],
      responses: {
        200: { description: 'The effect.', content: { 'application/json': { schema: { type: 'object' } } } },
        ...problems('400', '401', '403', '404', '503'),
      },
    },
  },
}

function operatorRequest(summary: string, schema: Json): Json {
  return {
    post: {
      operationId: summary.split(' ')[0]!.toLowerCase(),
      summary,
      tags: ['operate'],
      parameters: [idempotencyKey, prefer],
      requestBody: { required: true, content: { 'application/json': { schema } } },
      responses: {
        200: { $ref: '#/components/responses/Accepted' },
        202: { $ref: '#/components/responses/Durable' },
        409: problemRef('Rejected, such as when it was decided before'),
        ...problems('400', '401', '403', '408', '410', '413', '415', '422', '429', '500', '503'),
      },
    },
  }
}

const hash = { type: 'string', pattern: '^[0-9a-f]{64}$' }

/** Reprocessing, with the permission `admin`. */
const reprocessPaths: Record<string, Json> = {
  '/reprocess': {
    get: {
      operationId: 'generations',
      summary: 'The live generation, the other one and how far it is, and all promotions and changes of code',
      tags: ['admin'],
      responses: { 200: jsonObject('The generations.'), ...problems('401', '403', '503') },
    },
    post: adminPost(
      'reprocess',
      'Begins to derive everything again with code that the data directory keeps',
      {
        type: 'object',
        required: ['version'],
        properties: {
          version: { ...hash, description: 'The hash of the bundle.' },
          share: {
            type: 'number',
            exclusiveMinimum: 0,
            maximum: 1,
            description: 'For how much of the time it works; all of it when left out.',
          },
          again: { type: 'boolean', description: 'Also when this code is live.' },
        },
      },
      '409',
    ),
  },
  '/reprocess/pause': { post: adminPost('pause-reprocess', 'Stops until it is resumed', empty()) },
  '/reprocess/resume': { post: adminPost('resume-reprocess', 'Goes on', empty()) },
  '/reprocess/discard': {
    post: {
      ...adminPost('discard-reprocess', 'Gives up the other generation', empty()),
      responses: {
        204: { description: 'There is one generation only.' },
        ...problems('400', '401', '403', '404', '415', '503'),
      },
    },
  },
  '/reprocess/diff': {
    get: {
      operationId: 'diff',
      summary: 'What differs between the other generation and the live one',
      tags: ['admin'],
      parameters: [
        query(
          'samples',
          { type: 'integer', minimum: 0, maximum: 1000, default: 5 },
          'How many differences of each kind the summary holds.',
        ),
      ],
      responses: {
        200: {
          description: 'The summary; or as application/x-ndjson every difference, a line each.',
          headers: {
            'Hence-Diff': { schema: hash, description: 'Of application/x-ndjson: the hash of the diff.' },
          },
          content: {
            'application/json': { schema: { type: 'object' } },
            'application/x-ndjson': { schema: { type: 'string' } },
          },
        },
        ...problems('400', '401', '403', '404', '503'),
      },
    },
  },
  '/reprocess/promote': {
    post: {
      ...adminPost(
        'promote',
        'Makes the other generation live',
        {
          type: 'object',
          required: ['diff'],
          properties: {
            diff: { ...hash, description: 'The hash of the diff that was looked at, the last one.' },
            note: { type: 'string' },
          },
        },
        '409',
      ),
      parameters: [idempotencyKey],
    },
  },
}

function adminPost(operationId: string, summary: string, schema: Json, ...more: string[]): Json {
  return {
    operationId,
    summary,
    tags: ['admin'],
    requestBody: { required: true, content: { 'application/json': { schema } } },
    responses: {
      200: jsonObject('What came of it.'),
      ...problems('400', '401', '403', '404', ...more, '415', '422', '503'),
    },
  }
}

function jsonObject(description: string): Json {
  return { description, content: { 'application/json': { schema: { type: 'object' } } } }
}

function empty(): Json {
  return { type: 'object', maxProperties: 0 }
}
