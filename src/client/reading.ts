import type { KeyPart, Query, ReadOptions, Row } from '../app/index.ts'
import { pause } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { type Asking, pauseMs } from './backoff.ts'
import { fieldsOf, type HttpAnswer, notUnderstood, problemOf, retryAfterMs } from './exchange.ts'

/** The most rows that a server returns at a time. */
const pageRows = 1_000
/** This many tokens make an address of about 2,000 characters, which all proxies accept. */
const tokensMax = 100

interface TablesOptions extends Asking {
  readonly patienceMs: number
  readonly closing: AbortSignal
}

/** Reads tables over HTTP. A read that no server answers is retried for a while. */
export class Reading {
  readonly #options: TablesOptions

  constructor(options: TablesOptions) {
    this.#options = options
  }

  /** @param after tokens whose requests the row must show */
  async get(
    table: string,
    key: readonly KeyPart[],
    after: readonly string[],
    at: ReadOptions['at'],
  ): Promise<unknown> {
    // Such parts would be taken as path segments; a scan has them in its query.
    if (key.some((part) => part === '' || part === '.' || part === '..')) {
      const rows = await this.scan(table, { prefix: key, limit: 1 }, after, at)
      return rows.find((row) => row.key.length === key.length)?.value
    }
    const last = [...(await this.#await(table, after)), atField(at)]
    const answer = await this.#ask(pathOf(table, last, key))
    if (answer.status === 200) return field(answer, 'value')
    const problem = problemOf(answer)
    if (problem?.code === 'row-not-found') return undefined
    throw problem ?? notUnderstood(answer)
  }

  /** All rows of a query, page by page. Not a snapshot: a row that changes meanwhile may or may not be seen. */
  async scan(table: string, query: Query, after: readonly string[], at: ReadOptions['at']): Promise<Row[]> {
    const { index, prefix, from, to, reverse, limit = Number.POSITIVE_INFINITY } = query
    const asked: Field[] = [
      ['index', index],
      ['prefix', prefix && JSON.stringify(prefix)],
      ['from', from && JSON.stringify(from)],
      ['to', to && JSON.stringify(to)],
      ['reverse', reverse === undefined ? undefined : String(reverse)],
      atField(at),
    ]
    const last = await this.#await(table, after)
    const rows: Row[] = []
    let cursor: string | undefined
    while (rows.length < limit) {
      const page = String(Math.min(limit - rows.length, pageRows))
      const answer = await this.#ask(pathOf(table, [...asked, ['limit', page], ['cursor', cursor], ...last]))
      if (answer.status !== 200) {
        const problem = problemOf(answer)
        // The server was restarted and does not accept the cursor; start over, once.
        if (problem?.code === 'cursor-invalid' && cursor !== undefined) {
          cursor = undefined
          rows.length = 0
          continue
        }
        throw problem ?? notUnderstood(answer)
      }
      const found = field(answer, 'rows')
      if (!Array.isArray(found)) throw notUnderstood(answer)
      for (const row of found) rows.push(row)
      cursor = (answer.body as { readonly cursor?: string }).cursor
      if (cursor === undefined) break
    }
    return rows
  }

  /** Waits for all tokens except as many as fit into the address of the read itself, which are returned. */
  async #await(table: string, tokens: readonly string[]): Promise<Field[]> {
    const fields = tokens.map((token): Field => ['after', token])
    let done = 0
    for (; fields.length - done > tokensMax; done += tokensMax) {
      const some = fields.slice(done, done + tokensMax)
      const answer = await this.#ask(pathOf(table, [['limit', '1'], ...some]))
      if (answer.status !== 200) throw problemOf(answer) ?? notUnderstood(answer)
    }
    return fields.slice(done)
  }

  /** Asks until an answer is not `retry`, or the time is over. */
  async #ask(path: string): Promise<HttpAnswer> {
    const { exchange, clock, patienceMs, closing } = this.#options
    const end = clock.now() + patienceMs
    for (let failures = 1; ; failures++) {
      let problem: HenceError
      let askedMs: number | undefined
      try {
        const answer = await exchange.ask({ path, signal: closing })
        const told = answer.status === 200 ? undefined : (problemOf(answer) ?? notUnderstood(answer))
        if (told === undefined || told.advice === 'change') return answer
        problem = told
        askedMs = retryAfterMs(answer, clock.now())
      } catch (error) {
        if (!(error instanceof HenceError)) throw error
        problem = error
      }
      if (closing.aborted) throw problem
      const waitMs = pauseMs(this.#options, failures, askedMs)
      if (clock.now() + waitMs >= end) throw problem
      await pause(clock, waitMs, closing)
    }
  }
}

/** The tokens that a caller wants a read to wait for. */
export function tokensOf({ after = [] }: ReadOptions = {}): readonly string[] {
  return typeof after === 'string' ? [after] : after
}

type Field = readonly [name: string, value: string | undefined]

const atField = (at: ReadOptions['at']): Field => ['at', at === undefined ? undefined : String(at)]

function pathOf(table: string, fields: readonly Field[], key: readonly KeyPart[] = []): string {
  const given = fields.filter((each): each is [string, string] => each[1] !== undefined)
  const path = [table, ...key].map((part) => encodeURIComponent(part)).join('/')
  return `/tables/${path}${given.length === 0 ? '' : `?${new URLSearchParams(given)}`}`
}

function field(answer: HttpAnswer, name: string): unknown {
  const body = fieldsOf(answer.body)
  if (name in body) return body[name]
  throw notUnderstood(answer)
}
