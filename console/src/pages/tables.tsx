import { keepPreviousData, useInfiniteQuery, useQueries, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type FormEvent, useEffect, useState } from 'react'
import {
  type FullRecord,
  get,
  type HistoryPage,
  type LogPage,
  type Me,
  pathOf,
  type Query,
  Refused,
  type Row,
  type RowChange,
  type TablePage,
} from '../api.ts'
import { Compared } from '../compared.tsx'
import { bounded, brief, fullTime, minuteTime, plural } from '../format.ts'
import { useMe } from '../live.ts'
import { Commands, Copy, Empty, Json, RecordLink, RequestLink } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'
import { useWatch } from '../watch.ts'

const route = getRouteApi('/tables')
const columnsMax = 8

export function Tables() {
  const me = useMe()
  const search = route.useSearch()
  const tables = me.data?.tables ?? []
  const table = search.table === undefined ? tables[0] : tables.find(({ name }) => name === search.table)
  if (table === undefined)
    return (
      <Page title="Tables">
        <Empty>The app has no table{search.table !== undefined && ` ${search.table}`}.</Empty>
      </Page>
    )
  const past = table.hasPast ? me.data?.past : undefined
  const query = {
    index: search.index,
    prefix: partsOf(search.prefix),
    from: partsOf(search.from),
    to: partsOf(search.to),
    reverse: search.reverse,
    at: past && search.at,
  }
  const options = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : name === 'reverse' ? ['--reverse'] : [`--${name}`, `${value}`],
  )
  return (
    <Page
      title="Tables"
      tools={
        <Commands
          command={['table', 'scan', table.name, ...options]}
          path={`tables/${pathOf(table.name)}`}
          query={query}
        />
      }
    >
      <nav className="tabs" aria-label="Table">
        {tables.map(({ name }) => (
          <Link
            key={name}
            from="/tables"
            to="/tables"
            search={{ table: name, at: search.at }}
            className={name === table.name ? 'current' : ''}
          >
            {name}
          </Link>
        ))}
      </nav>
      <Range key={`${table.name} ${search.index}`} table={table} />
      {past && <Past {...past} />}
      <div className={`split ${search.row === undefined ? '' : 'has-detail'}`}>
        <Rows key={JSON.stringify([table.name, { ...query, at: undefined }])} table={table} query={query} />
        {search.row !== undefined && (
          <Detail table={table.name} row={search.row} at={query.at} hasPast={past !== undefined} />
        )}
      </div>
    </Page>
  )
}

/** A key as somebody types it: a JSON list, or one text. */
function partsOf(typed: string | undefined): string | undefined {
  if (typed === undefined || typed === '') return undefined
  try {
    const given: unknown = JSON.parse(typed)
    return JSON.stringify(Array.isArray(given) ? given : [given])
  } catch {
    return JSON.stringify([typed])
  }
}

type Table = Me['tables'][number]

function Range({ table }: { table: Table }) {
  const { index = '', prefix, from, to, reverse, at } = route.useSearch()
  const navigate = route.useNavigate()
  const set = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    const text = (name: string) => String(form.get(name) ?? '').trim() || undefined
    void navigate({
      search: {
        table: table.name,
        index: text('index'),
        prefix: text('prefix'),
        from: text('from'),
        to: text('to'),
        at,
        ...(form.get('reverse') === 'on' && { reverse: 'true' }),
      },
    })
  }
  return (
    <form className="filters" onSubmit={set}>
      <label>
        Sorted
        <select name="index" defaultValue={index} onChange={({ target }) => target.form?.requestSubmit()}>
          <option value="">by key</option>
          {Object.keys(table.indexes).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      {(
        [
          ['prefix', 'Begins with', prefix],
          ['from', 'From', from],
          ['to', 'Before', to],
        ] as const
      ).map(([name, label, value]) => (
        <label key={name}>
          {label}
          <input name={name} key={value} defaultValue={value} placeholder={'text or ["a",1]'} />
        </label>
      ))}
      <label className="check">
        <input
          type="checkbox"
          name="reverse"
          defaultChecked={reverse === 'true'}
          onChange={({ target }) => target.form?.requestSubmit()}
        />
        last first
      </label>
      <button type="submit" className="tool">
        Show
      </button>
    </form>
  )
}

/** The keys move by so many parts of the whole. */
const stepsMax = 1_000
/** While the slider moves, rows are read after so many milliseconds without a step. */
const restMs = 120

/** A slider over the log times as of which the table can be read. */
function Past({ since, until }: { since: number; until: number }) {
  const { at } = route.useSearch()
  const navigate = route.useNavigate()
  const me = useMe()
  const [moved, setMoved] = useState<number>()
  const token = typeof at === 'string' ? at : undefined
  const record = useQuery({
    queryKey: ['record', token],
    queryFn: ({ signal }) => get<FullRecord>(`log/${token}`, {}, signal),
    enabled: token !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  })
  const go = (at: number | undefined) =>
    void navigate({ search: (before) => ({ ...before, at }), replace: true, resetScroll: false })
  // biome-ignore lint/correctness/useExhaustiveDependencies: the slider rests
  useEffect(() => {
    if (moved === undefined) return
    const timer = setTimeout(() => go(moved), restMs)
    return () => clearTimeout(timer)
  }, [moved])
  // biome-ignore lint/correctness/useExhaustiveDependencies: the address has changed
  useEffect(() => setMoved(undefined), [at])
  const open = () => void me.refetch().then(({ data }) => go(data?.past?.until ?? until))
  if (at === undefined) {
    return (
      <button type="button" className="tool as-it-was" onClick={open}>
        As it was…
      </button>
    )
  }
  const time = moved ?? (typeof at === 'number' ? at : (record.data?.at ?? until))
  const text = `${fullTime(time)}.${String(time % 1000).padStart(3, '0')}`
  return (
    <div className="past">
      <label>
        As it was
        <input
          type="range"
          min={since}
          max={Math.max(since, until, time)}
          step={Math.max(1, Math.floor((until - since) / stepsMax))}
          value={time}
          aria-valuetext={text}
          onChange={({ target }) => setMoved(Number(target.value))}
        />
      </label>
      <output>
        <time dateTime={new Date(time).toISOString()}>{text}</time>
        {moved === undefined &&
          (token === undefined ? (
            <Positions time={time} partitions={me.data?.partitions ?? 0} />
          ) : (
            <RecordLink token={token} />
          ))}
      </output>
      <button type="button" className="tool" onClick={() => go(undefined)}>
        Now
      </button>
    </div>
  )
}

/** Beyond this many partitions they are not shown. */
const partitionsMax = 8

/** The last record of each partition at a log time. */
function Positions({ time, partitions }: { time: number; partitions: number }) {
  const found = useQueries({
    queries: Array.from({ length: partitions > partitionsMax ? 0 : partitions }, (_, partition) => ({
      queryKey: ['position', partition, time],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        get<LogPage>('log', { partition, since: time + 1, limit: 1 }, signal),
      staleTime: Number.POSITIVE_INFINITY,
      retry: false,
    })),
  })
  return found.map(
    ({ data }) =>
      data !== undefined &&
      data.from > 0 && <RecordLink key={data.partition} token={`${data.partition}:${data.from - 1}`} />,
  )
}

function Rows({ table, query }: { table: Table; query: Query }) {
  const { row: chosen } = route.useSearch()
  const { at } = query
  const [wantsWatch, setWantsWatch] = useState(false)
  const isWatching = wantsWatch && at === undefined
  const pages = useInfiniteQuery({
    queryKey: ['table', table.name, query],
    queryFn: ({ pageParam, signal }) =>
      get<TablePage>(`tables/${pathOf(table.name)}`, { ...query, limit: 100, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ cursor }) => cursor,
    placeholderData: keepPreviousData,
  })
  const ended = useWatch(table.name, isWatching, pages.refetch, () => setWantsWatch(false))
  const rows = pages.data?.pages.flatMap((page) => page.rows) ?? []
  const columns = columnsOf(rows)
  const numbers = new Set(
    columns.filter((name) => rows.every(({ value }) => ['number', 'undefined'].includes(typeof value[name]))),
  )
  return (
    <div>
      <div className="section-head">
        <p className="quiet">
          {pages.data
            ? `${bounded(rows.length, pages.hasNextPage)} ${rows.length === 1 ? 'row' : 'rows'}`
            : pages.isPending && 'Loading…'}
        </p>
        <button
          type="button"
          className="tool"
          aria-pressed={isWatching}
          disabled={at !== undefined}
          onClick={() => setWantsWatch(!wantsWatch)}
        >
          {isWatching ? 'Watching' : 'Watch'}
        </button>
      </div>
      {(pages.error ?? ended) && <Problem error={(pages.error ?? ended)!} />}
      {pages.data && rows.length === 0 && <Empty>No rows.</Empty>}
      {rows.length > 0 && (
        <div className="scroll-x">
          <table className="data">
            <thead>
              <tr>
                <th scope="col">Key</th>
                {columns.map((name) => (
                  <th key={name} scope="col" className={numbers.has(name) ? 'number' : ''}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ key, value }) => {
                const text = JSON.stringify(key)
                return (
                  <tr key={text} className={text === chosen ? 'selected' : ''}>
                    <th scope="row">
                      <Link
                        from="/tables"
                        to="/tables"
                        search={(before) => ({ ...before, row: text })}
                        className="id"
                      >
                        {key.join(' / ')}
                      </Link>
                    </th>
                    {columns.map((name) => (
                      <td key={name} className={numbers.has(name) ? 'number' : 'cell'}>
                        {cell(value[name])}
                      </td>
                    ))}
                  </tr>
                )
              })}
            </tbody>
          </table>
        </div>
      )}
      {pages.hasNextPage && (
        <button type="button" className="tool" onClick={() => void pages.fetchNextPage()}>
          More
        </button>
      )}
    </div>
  )
}

function columnsOf(rows: readonly Row[]): readonly string[] {
  const names = new Set<string>()
  for (const { value } of rows) {
    if (typeof value === 'object' && value !== null) for (const name of Object.keys(value)) names.add(name)
  }
  return [...names].slice(0, columnsMax)
}

const cell = (value: unknown) =>
  value === undefined ? (
    ''
  ) : typeof value === 'string' || typeof value === 'number' ? (
    value
  ) : (
    <span className="mono">{brief(value, 60)}</span>
  )

interface DetailProps {
  readonly table: string
  readonly row: string
  readonly at: string | number | undefined
  readonly hasPast: boolean
}

function Detail({ table, row, at, hasPast }: DetailProps) {
  const key = keyIn(row)
  const path = `tables/${pathOf(table, ...key)}`
  const { data, error } = useQuery({
    queryKey: ['row', table, row, at],
    queryFn: ({ signal }) => get<Row>(path, { at }, signal),
    refetchInterval: at === undefined && 2_000,
    placeholderData: keepPreviousData,
  })
  return (
    <aside className="detail" aria-label={`Row ${key.join(' / ')}`}>
      <div className="section-head">
        <h2>{key.join(' / ')}</h2>
        <Link
          from="/tables"
          to="/tables"
          search={(before) => ({ ...before, row: undefined })}
          className="tool"
        >
          Close
        </Link>
      </div>
      {error instanceof Refused && error.problem.code === 'row-not-found' ? (
        <Empty>{at === undefined ? 'There is no such row.' : 'There was no such row then.'}</Empty>
      ) : (
        error && <Problem error={error} />
      )}
      {data && <Json value={data.value} label="Row" />}
      <div className="tools">
        {data && <Copy text={JSON.stringify(data)}>Copy as JSON</Copy>}
        <Commands
          command={['table', 'get', table, row, ...(at === undefined ? [] : ['--at', `${at}`])]}
          path={path}
          query={{ at }}
        />
      </div>
      <History
        hasPast={hasPast}
        path={`changes/${pathOf(table, ...key)}`}
        now={at === undefined && data ? JSON.stringify(data.value) : ''}
      />
    </aside>
  )
}

/** @param now the row as it is: another one has another history */
function History({ path, hasPast, now }: { path: string; hasPast: boolean; now: string }) {
  const pages = useInfiniteQuery({
    queryKey: ['history', path, now],
    queryFn: ({ pageParam, signal }) => get<HistoryPage>(path, { limit: 20, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ cursor }) => cursor,
    placeholderData: keepPreviousData,
    retry: false,
  })
  const { error, data, hasNextPage, fetchNextPage } = pages
  const isView = error instanceof Refused && error.problem.code === 'unknown-table'
  const changes = data?.pages.flatMap((page) => page.changes) ?? []
  return (
    <section aria-labelledby="history" className="row-history">
      <h2 id="history">History</h2>
      {isView ? (
        <p className="quiet">A view has none: its rows follow from others.</p>
      ) : (
        error && <Problem error={error} />
      )}
      {changes.map((change) => (
        <Changed key={`${change.token} ${JSON.stringify(change.after)}`} change={change} hasPast={hasPast} />
      ))}
      {data && !hasNextPage && (
        <p className="quiet">
          {data.pages[0]!.keptFrom.endsWith(':0')
            ? `${plural(changes.length, 'change')} since the log began.`
            : `Changes before ${data.pages[0]!.keptFrom} are not kept.`}
        </p>
      )}
      {hasNextPage && (
        <button type="button" className="tool" onClick={() => void fetchNextPage()}>
          Earlier
        </button>
      )}
    </section>
  )
}

function Changed({
  change: { token, at, type, requestId, principal, before, after },
  hasPast,
}: {
  change: RowChange
  hasPast: boolean
}) {
  return (
    <section className="change" aria-label={`Change at ${token}`}>
      <h3>
        <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>
          {minuteTime(at)}
        </time>{' '}
        {type} {requestId !== undefined && <RequestLink id={requestId} principal={principal} />}{' '}
        <RecordLink token={token} />{' '}
        {hasPast && (
          <Link from="/tables" to="/tables" search={(before) => ({ ...before, at: token })} className="then">
            as of then
          </Link>
        )}
      </h3>
      <Compared before={before} after={after} />
    </section>
  )
}

function keyIn(row: string): readonly (string | number)[] {
  try {
    const key: unknown = JSON.parse(row)
    return Array.isArray(key) ? key : [row]
  } catch {
    return [row]
  }
}
