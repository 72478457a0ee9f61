import type { Outcome } from '../../src/app/index.ts'
import type { Violation } from '../../src/constraint/tables.ts'
import type { EffectState } from '../../src/effect/outbox.ts'
import type { Attempts } from '../../src/effect/tries.ts'
import type { Preview, Story } from '../../src/query/story.ts'
import type { Diff, Promotion, ReprocessStatus } from '../../src/reprocess/reprocessing.ts'
import type { ViolationView } from '../../src/server/operator.ts'
import type { Problem } from '../../src/server/problem.ts'
import type { Generations } from '../../src/server/reprocess.ts'
import type { SeriesView } from '../../src/server/series.ts'
import type { Me, Status } from '../../src/server/status.ts'

// The server's API as the console uses it; docs/reference/http.md describes it.

export type {
  Attempts,
  Diff,
  EffectState,
  Generations,
  Me,
  Outcome,
  Preview,
  Problem,
  Promotion,
  ReprocessStatus,
  SeriesView,
  Status,
  Story,
  Violation,
  ViolationView,
}

/** A record of the log, as a line of `hence log cat --json`. */
export interface LogRecord {
  readonly token: string
  readonly at: number
  readonly kind: string
  readonly type?: string
  readonly requestId?: string
  readonly principal?: string
  readonly key?: string
  readonly input?: unknown
  readonly data?: unknown
  readonly result?: unknown
  readonly error?: string
  readonly effect?: string
  readonly cause?: string
  readonly outcome?: 'accepted' | 'rejected' | 'failed'
  readonly reason?: string
  readonly corrected?: string
}

export interface LogPage {
  readonly partition: number
  readonly from: number
  readonly next: number
  readonly end: number
  readonly records: readonly LogRecord[]
}

export type FullRecord = LogRecord & {
  readonly size: number
  readonly bytes: string
  readonly hashes: { readonly leaf: string; readonly batch: number; readonly before?: string }
}

export interface Row {
  readonly key: readonly (string | number)[]
  readonly value: Record<string, unknown>
}

export interface TablePage {
  readonly rows: readonly Row[]
  readonly cursor?: string
}

export interface RowChange {
  readonly token: string
  readonly at: number
  readonly kind?: string
  readonly type?: string
  /** Left out of the request of another, for a caller who may not see that. */
  readonly requestId?: string
  readonly principal?: string
  readonly before?: unknown
  readonly after?: unknown
}

export interface HistoryPage {
  readonly changes: readonly RowChange[]
  readonly keptFrom: string
  readonly cursor?: string
}

export interface EffectPage {
  readonly effects: readonly EffectState[]
  readonly cursor?: string
}

/** The address of the server: the console is one level below it, whatever is above. */
export const server = new URL('..', document.baseURI)
/** The path of the console, without a slash at its end. */
export const consolePath = new URL('.', document.baseURI).pathname.replace(/\/$/, '')

const keyName = 'hence.key'

/** The API key of this tab; it is kept for the tab's life, and sent to this server alone. */
export const key = {
  get: () => sessionStorage.getItem(keyName) ?? undefined,
  set: (secret: string) => sessionStorage.setItem(keyName, secret),
  remove: () => sessionStorage.removeItem(keyName),
}

/** An answer of the server that is a problem. */
export class Refused extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.detail)
    this.problem = problem
  }
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>

/** The address of a route of the server. */
export function addressOf(path: string, query: Query = {}): URL {
  const url = new URL(path, server)
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') url.searchParams.set(name, String(value))
  }
  return url
}

/** A path with its parts percent-encoded. */
export function pathOf(...parts: readonly (string | number)[]): string {
  return parts.map((part) => encodeURIComponent(part)).join('/')
}

/** @throws Refused, or an error if the server cannot be reached */
export async function get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
  return (await sent(addressOf(path, query), { ...(signal && { signal }) })) as T
}

/** Sends a request to the log; the same id again has no second effect. */
export async function submit(type: string, input: unknown, requestId: string): Promise<unknown> {
  return post(`requests/${pathOf(type)}`, input, requestId)
}

/** Posts to a route of operators; with an id, the same again has no second effect. */
export async function post<T>(path: string, body: unknown, requestId?: string): Promise<T> {
  const headers = {
    'content-type': 'application/json',
    ...(requestId !== undefined && { 'idempotency-key': `"${requestId}"` }),
  }
  return (await sent(addressOf(path), { method: 'POST', body: JSON.stringify(body), headers })) as T
}

/** A request that was decided, now or before. */
export interface Sent {
  readonly outcome: string
  readonly token: string
  /** It had been decided before, under the same id. */
  readonly replayed: boolean
  readonly body: unknown
}

/**
 * Sends a request of the app; the input is JSON text, which is passed on as it is.
 * @throws Refused if it was not decided
 */
export async function send(type: string, input: string, requestId: string): Promise<Sent> {
  const response = await answerTo(addressOf(`requests/${pathOf(type)}`), {
    method: 'POST',
    body: input,
    headers: { 'content-type': 'application/json', 'idempotency-key': `"${requestId}"` },
  })
  const [outcome, token] = [response.headers.get('hence-outcome'), response.headers.get('hence-token')]
  const text = await response.text()
  if (outcome === null || token === null) throw new Refused(problemOf(response.status, text))
  const replayed = response.headers.get('idempotent-replayed') === 'true'
  return { outcome, token, replayed, body: JSON.parse(text) }
}

async function answerTo(url: URL, init: RequestInit): Promise<Response> {
  const secret = key.get()
  return fetch(url, {
    ...init,
    headers: { ...init.headers, ...(secret && { authorization: `Bearer ${secret}` }) },
  })
}

async function sent(url: URL, init: RequestInit): Promise<unknown> {
  const response = await answerTo(url, init)
  const text = await response.text()
  if (response.ok) return text === '' ? undefined : JSON.parse(text)
  throw new Refused(problemOf(response.status, text))
}

function problemOf(status: number, text: string): Problem {
  try {
    return JSON.parse(text) as Problem
  } catch {
    const detail = `The server answered ${status}: ${text.slice(0, 200)}`
    return { type: '', title: '', status, detail, code: 'unknown', advice: 'operator' }
  }
}
