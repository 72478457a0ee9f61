import type { TableChange } from '../app/index.ts'
import { isView } from '../app/view.ts'
import { orAfter } from '../clock.ts'
import { effects } from '../effect/outbox.ts'
import { changeError, HenceError, retryError } from '../failure.ts'
import type { Changes } from '../query/reader.ts'
import type { Access } from './access.ts'
import type { Answer } from './answer.ts'
import { keyParts, text, texts, type ValuesOf } from './parameter.ts'
import { problemOf, unforeseen } from './problem.ts'
import type { Arrival } from './route.ts'
import type { Serving } from './serving.ts'
import { Shares } from './shares.ts'
import { streamAnswer } from './text-stream.ts'

export const changesQuery = {
  table: texts('The tables; without it, all that the caller may read.'),
  prefix: keyParts('The first parts of the key, as a JSON list.'),
  from: text('The position to continue from; the header Last-Event-ID takes precedence.', {
    type: 'string',
    pattern: '^\\d{1,16}(\\.\\d{1,16})*(@[0-9a-f]{12}\\.\\d+)?$',
  }),
}

/**
 * `GET /changes?table=…`: changed rows of those tables, or of one view, or of all tables that the caller may
 * read, as server-sent events, record by record. The id of an event is the position behind it.
 *
 *   event: open     first; its id is the position to resume from if nothing else has been received
 *   event: changes  data: a JSON list of changes
 *   event: problem  the stream cannot continue; data: the problem
 */
export function changeStreams(serving: Serving) {
  const { engine, limits, rules, closing } = serving
  const open = new Shares(limits.streams, limits.streamsPerCaller)
  const isViewOf = (table: string) => table !== effects.name && isView(rules.table(table))

  /** A promotion may change the tables of the app while the stream is open. */
  const isAsked = (
    { table: named, prefix = [] }: ValuesOf<typeof changesQuery>,
    { table, key }: TableChange,
  ): boolean => {
    const isNamed = named.length > 0 ? named.includes(table) : engine.app.tables.has(table)
    return isNamed && prefix.every((part, i) => key[i] === part)
  }

  async function* texts(
    feed: AsyncIterator<Changes>,
    first: Promise<IteratorResult<Changes>>,
    from: string,
    access: Access,
    query: ValuesOf<typeof changesQuery>,
  ): AsyncGenerator<string> {
    yield `id: ${from}\nevent: open\ndata: {}\n\n`
    try {
      let visible = rules.changes(access.caller, 'watch')
      for (let next = first; ; ) {
        const found = await orAfter(next, limits.heartbeatMs, false)
        if (found?.done) return
        // Even an idle stream ends with the key or the session of its reader.
        if (!access.isCurrent) {
          const caller = await access.renew()
          for (const table of query.table) rules.watch(caller, table)
          visible = rules.changes(caller, 'watch')
        }
        if (found === undefined) {
          yield ': here\n\n'
          continue
        }
        const changed = found.value.changes.filter((change) => isAsked(query, change))
        const changes = await rules.limited('changes', () =>
          changed.flatMap((change) => visible(change) ?? []),
        )
        if (changes.length > 0) {
          yield `id: ${found.value.position}\nevent: changes\ndata: ${JSON.stringify(changes)}\n\n`
        }
        next = feed.next()
      }
    } catch (error) {
      const problem = problemOf(error instanceof HenceError ? error : unforeseen())
      yield `event: problem\ndata: ${JSON.stringify(problem)}\n\n`
    }
  }

  return {
    get open(): number {
      return open.held
    },
    async start({ request, access, query }: Arrival<typeof changesQuery>): Promise<Answer> {
      const { principal } = access.caller
      for (const table of query.table) {
        rules.watch(access.caller, table)
        if (isViewOf(table) && query.table.length > 1) throw notTogether(table)
      }
      const view = query.table.find(isViewOf)
      const withEffects = query.table.includes(effects.name)
      const here = view === undefined ? engine.position() : await engine.viewPosition(view)
      if (!open.take(principal))
        throw retryError(
          'too-many-streams',
          'As many streams of changes are open as the server or your share of it allows. Try again later.',
        )
      const ended = new AbortController()
      const onEnd = () => {
        ended.abort()
        open.release(principal)
      }
      const from = request.headers.get('last-event-id') ?? query.from ?? here
      const signal = AbortSignal.any([closing, ended.signal])
      const feed = engine
        .changes({ from, signal, effects: withEffects, ...(view && { view }) })
        [Symbol.asyncIterator]()
      const found = feed.next()
      // A position that is no longer kept fails at once, while the answer can still have a status.
      try {
        await Promise.race([found, new Promise(setImmediate)])
      } catch (error) {
        onEnd()
        throw error
      }
      const made = () => texts(feed, found, from, access, query)
      return streamAnswer(limits, 'text/event-stream', made, onEnd, { 'x-accel-buffering': 'no' })
    },
  }
}

export type ChangeStreams = ReturnType<typeof changeStreams>

const notTogether = (view: string) =>
  changeError(
    'query-invalid',
    `"${view}" is a view, which has positions of its own: open a stream for it alone.`,
  )
