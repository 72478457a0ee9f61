import type { App } from '../app/index.ts'
import { depthMax } from '../json.ts'
import { problem } from './answer-form.ts'
import type { JsonSchema } from './json-schema.ts'
import type { AnswerForm, Expansion, Route } from './route.ts'

type OpenApiObject = Record<string, unknown>

/** The OpenAPI 3.1 document of an app, out of its schemas and what the routes state. */
export function openApi(routes: readonly Route[], app: App, path: string, version: string): OpenApiObject {
  const paths: Record<string, OpenApiObject> = {}
  for (const route of routes) {
    for (const expansion of route.expand?.(app) ?? [{ path: route.path.replace(/:(\w+)/g, '{$1}') }]) {
      paths[expansion.path] = {
        ...paths[expansion.path],
        [route.method.toLowerCase()]: operation(route, expansion),
      }
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: app.name,
      version: version.slice(0, 12),
      description:
        'Requests are sent with an id that the client makes and stores; however often one is sent, it is ' +
        'decided once. JSON is read strictly: no name twice in an object, no integer beyond 2^53 − 1, at ' +
        `most ${depthMax} levels.`,
    },
    servers: [{ url: path || '/' }],
    security: [{ key: [] }, {}],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
      responses: {
        Problem: {
          description: 'An error (RFC 9457).',
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
      schemas: { Problem: problem },
    },
  }
}

function operation(
  route: Route,
  { path, id, summary, parts, query, body, answer }: Expansion,
): OpenApiObject {
  const parameters = [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: parts?.[name!] ?? route.parts?.[name!] ?? { type: 'string', minLength: 1 },
    })),
    ...Object.entries(route.query ?? {}).flatMap(
      ([name, { schema, isJson, description, isRequired, isRepeatable }]) => {
        const own = query && name in query ? query[name] : schema
        if (own === undefined) return []
        const form = isRepeatable && { style: 'form', explode: true }
        const described = isJson ? { content: { 'application/json': { schema: own } } } : { schema: own }
        return [{ name, in: 'query', required: isRequired, description, ...form, ...described }]
      },
    ),
    ...(route.headers ?? []).map((header) => ({ required: false, ...header, in: 'header' })),
  ]
  const { permission } = route
  return {
    operationId: id ?? route.id,
    summary: summary ?? route.summary,
    ...(permission !== 'none' &&
      permission !== 'known' && { description: `Takes the permission ${permission}.` }),
    tags: [route.path.split('/')[1]],
    ...(permission === 'none' && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(route.body && {
      requestBody: {
        // A batch may have no lines.
        required: route.body.type === 'application/json',
        ...(route.body.description !== undefined && { description: route.body.description }),
        content: { [route.body.type]: { schema: body ?? route.body.schema } },
      },
    }),
    responses: {
      ...mapped(answersOf(route, answer), response),
      ...Object.fromEntries(
        problemsOf(route).map((status) => [status, { $ref: '#/components/responses/Problem' }]),
      ),
      431: { description: 'The head of the request is too long; without a body.' },
    },
  }
}

function mapped<From, To>(values: Readonly<Record<string, From>>, to: (value: From) => To) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, to(value)]))
}

/** @param json the schema of JSON answers, if it depends on the name */
function answersOf({ method, json, answers }: Route, named = json): Readonly<Record<number, AnswerForm>> {
  if (named === undefined) return answers ?? {}
  const found: AnswerForm = { description: 'The answer.', content: { 'application/json': named } }
  const notModified = { description: 'The client has it already (If-None-Match).' }
  return { 200: found, ...(method === 'GET' && { 304: notModified }), ...answers }
}

function response({ description, content, headers }: AnswerForm): OpenApiObject {
  const schemas = (of: Readonly<Record<string, JsonSchema>>) => mapped(of, (schema) => ({ schema }))
  return {
    description,
    ...(headers && { headers: schemas(headers) }),
    ...(content && { content: schemas(content) }),
  }
}

function problemsOf({ permission, body, problems = [] }: Route): readonly number[] {
  const access = permission === 'none' ? [400] : [400, 401, 403, 500, 503]
  const arrival = body === undefined ? [] : body.type === 'application/json' ? [408, 413, 415] : [415]
  return [...new Set([...access, ...arrival, ...problems])].sort((a, b) => a - b)
}
