import type { App, Schema } from '../app/index.ts'
import { jsonSchemaOf } from '../app/schema.ts'
import { isView } from '../app/view.ts'
import { operatorTables } from '../constraint/tables.ts'
import { effects } from '../effect/outbox.ts'
import { keyBytesMax } from '../state/keys.ts'
import type { TableShape } from '../state/table.ts'
import { closed, type JsonSchema, list, object, oneOf, principal, requestId, text } from './json-schema.ts'
import type { Expansion } from './route.ts'

// Routes that serve every request type or every table of an app: how OpenAPI describes each of them.

export function expandRequests(app: App): readonly Expansion[] {
  const requests = [...app.requests].map(([name, request]) => ({
    path: `/requests/${name}`,
    id: `submit-${name}`,
    summary: `Sends a request of type ${name}`,
    body: schemaOf(request.input, 'input', `requests/${name}`),
  }))
  return [...requests, ...operatorRequests]
}

const reason: JsonSchema = { type: 'string', minLength: 1 }
/** Those that Hence makes have 36 characters. */
const systemId: JsonSchema = { ...reason, maxLength: 255 }

const operatorRequests: readonly Expansion[] = [
  {
    path: '/requests/hence:resolve-violation',
    id: 'resolve-violation',
    summary: 'Decides about a violation that is open',
    body: object(
      {
        violation: { ...systemId, description: 'The id of the violation.' },
        key: { ...text, description: 'The partition key that its constraint is judged under.' },
        action: oneOf('compensate', 'waive', 'raise-limit', 'choose'),
        'units?': { type: 'integer', minimum: 1, description: 'With raise-limit: by how much.' },
        'victims?': {
          ...list(object({ requestId, 'principal?': principal })),
          description: 'With choose: the requests that give way.',
        },
        reason,
      },
      {
        additionalProperties: false,
        anyOf: [
          { properties: { action: oneOf('compensate', 'waive', 'raise-limit') } },
          { required: ['victims'] },
        ],
      },
    ),
  },
  {
    path: '/requests/hence:redrive',
    id: 'redrive',
    summary: 'Delivers an effect again that was given up',
    body: closed({
      effect: { ...systemId, description: 'The id of the effect.' },
      key: { ...text, description: 'The partition key of the derivation that asked for it.' },
      'mayRepeat?': {
        type: 'boolean',
        description: 'Even if the receiver may have forgotten that it got it.',
      },
      reason,
    }),
  },
]

export function expandPreviews(): readonly Expansion[] {
  return operatorRequests.map(({ path, id, summary, body }) => ({
    path: path.replace('requests', 'previews'),
    id: `preview-${id}`,
    summary: `Preview, nothing is written: ${summary![0]!.toLowerCase()}${summary!.slice(1)}`,
    body: body!,
  }))
}

/** Every table that has rows to read, the app's and the operators'. */
const tablesOf = (app: App): readonly TableShape[] => [...app.tables.values(), ...operatorTables.values()]

export function expandScan(app: App): readonly Expansion[] {
  return tablesOf(app).map((table) => {
    const indexes = Object.keys(table.indexes)
    return {
      path: `/tables/${table.name}`,
      id: `scan-${table.name}`,
      summary: `Rows of ${table.name}, a page at a time`,
      query: { index: indexes.length > 0 ? { enum: indexes } : undefined },
      answer: object({ rows: list(rowOf(app, table)), 'cursor?': text }),
    }
  })
}

export function expandGet(app: App): readonly Expansion[] {
  return tablesOf(app).map((table) => ({
    ...ofRow('tables', table, 'get', 'One row of'),
    answer: rowOf(app, table),
  }))
}

/** Views have no history: their rows follow from others. */
export function expandHistory(app: App): readonly Expansion[] {
  const tables = tablesOf(app).filter((table) => !isView(table))
  return tables.map((table) => {
    const row = ofRow('changes', table, 'history', 'The changes of one row of')
    return { ...row, summary: `${row.summary}, the last first` }
  })
}

function ofRow(under: string, table: TableShape, id: string, summary: string) {
  const { name } = table
  const kinds = kindsOf(table)
  const path = `/${under}/${name}/${kinds.map((_, i) => `{key${i}}`).join('/')}`
  const parts = Object.fromEntries(kinds.map((type, i) => [`key${i}`, partOf(type)]))
  return { path, parts, id: `${id}-${name}`, summary: `${summary} ${name}` }
}

export function expandChanges(app: App): readonly Expansion[] {
  const names = [...tablesOf(app), effects].map(({ name }) => name)
  return [{ path: '/changes', query: { table: list({ enum: names }) } }]
}

function rowOf(app: App, table: TableShape): JsonSchema {
  const ofApp = app.tables.get(table.name)
  const value = ofApp ? schemaOf(ofApp.value, 'output', `tables/${table.name}`) : object({})
  return object({ key: { type: 'array', prefixItems: kindsOf(table).map((type) => ({ type })) }, value })
}

const kindsOf = (table: TableShape): readonly string[] => ['string', ...table.parts]

/** A part of a key in a path. All parts together may have so many bytes, which no schema can say. */
function partOf(type: string): JsonSchema {
  if (type === 'string') return { type, minLength: 1, maxLength: keyBytesMax }
  // Beyond these a double rounds whole numbers.
  return { type, minimum: -Number.MAX_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }
}

function schemaOf(schema: Schema, side: 'input' | 'output', id: string): JsonSchema {
  const described = jsonSchemaOf(schema, side)
  if (described === undefined)
    return { description: 'The schema library does not describe this schema as JSON Schema.' }
  // References within it count from its root, which the id makes it have.
  return JSON.stringify(described).includes('"$ref"')
    ? { $id: `urn:hence:schema:${id}`, ...described }
    : described
}
