import { keepPreviousData, useInfiniteQuery, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type FormEvent, useEffect, useState } from 'react'
import {
  get,
  type HistoryPage,
  type Me,
  pathOf,
  Refused,
  type Row,
  type RowChange,
  type TablePage,
} from '../api.ts'
import { Compared } from '../compared.tsx'
import { brief, fullTime, minuteTime } from '../format.ts'
import { useMe } from '../live.ts'
import { Commands, Copy, Empty, Json, RecordLink, RequestLink } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'
import { watch } from '../watch.ts'

const route = getRouteApi('/tables')
const columnsMax = 8

export function Tables() {
  const me = useMe()
  const search = route.useSearch()
  const tables = me.data?.tables ?? []
  const table = tables.find(({ name }) => name === search.table) ?? tables[0]
  if (table === undefined)
    return (
      <Page title="Tables">
        <Empty>The app has no table.</Empty>
      </Page>
    )
  const query = {
    index: search.index,
    prefix: partsOf(search.prefix),
    from: partsOf(search.from),
    to: partsOf(search.to),
    reverse: search.reverse,
  }
  const options = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : name === 'reverse' ? ['--reverse'] : [`--${name}`, value],
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
            search={{ table: name }}
            className={name === table.name ? 'current' : ''}
          >
            {name}
          </Link>
        ))}
      </nav>
      <Range key={`${table.name} ${search.index}`} table={table} />
      <div className={`split ${search.row === undefined ? '' : 'has-detail'}`}>
        <Rows key={JSON.stringify([table.name, query])} table={table} query={query} />
        {search.row !== undefined && <Detail table={table.name} row={search.row} />}
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
  const { index = '', prefix, from, to, reverse } = route.useSearch()
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
        ...(form.get('reverse') === 'on' && { reverse: 'true' }),
      },
    })
  }
  return (
    <form className="filters" onSubmit={set}>
      <label>
        Order
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

function Rows({ table, query }: { table: Table; query: Record<string, string | undefined> }) {
  const { row: chosen } = route.useSearch()
  const [isWatching, setIsWatching] = useState(false)
  const pages = useInfiniteQuery({
    queryKey: ['table', table.name, query],
    queryFn: ({ pageParam, signal }) =>
      get<TablePage>(`tables/${pathOf(table.name)}`, { ...query, limit: 100, cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ cursor }) => cursor,
    placeholderData: keepPreviousData,
  })
  const { refetch } = pages
  const [ended, setEnded] = useState<Error>()
  useEffect(() => {
    if (!isWatching) return
    const stop = new AbortController()
    setEnded(undefined)
    // Changes come in bursts: the pages are read again once for each.
    let isAsked = false
    const changed = () => {
      if (isAsked) return
      isAsked = true
      setTimeout(() => {
        isAsked = false
        if (!stop.signal.aborted) void refetch()
      }, 500)
    }
    watch(table.name, changed, stop.signal).catch((error: Error) => {
      if (stop.signal.aborted) return
      setEnded(error)
      setIsWatching(false)
    })
    return () => stop.abort()
  }, [isWatching, table.name, refetch])
  const rows = pages.data?.pages.flatMap((page) => page.rows) ?? []
  const columns = columnsOf(rows)
  return (
    <div>
      <div className="section-head">
        <p className="quiet">
          {rows.length}
          {pages.hasNextPage ? '+' : ''} rows
        </p>
        <button
          type="button"
          className="tool"
          aria-pressed={isWatching}
          onClick={() => setIsWatching(!isWatching)}
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
                  <th key={name} scope="col">
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
                      <td key={name} className="cell">
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
  ) : typeof value === 'string' ? (
    value
  ) : (
    <span className="mono">{brief(value, 60)}</span>
  )

function Detail({ table, row }: { table: string; row: string }) {
  const key = keyIn(row)
  const path = `tables/${pathOf(table, ...key)}`
  const { data, error } = useQuery({
    queryKey: ['row', table, row],
    queryFn: ({ signal }) => get<Row>(path, {}, signal),
    refetchInterval: 2_000,
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
      {error && <Problem error={error} />}
      {data && <Json value={data.value} label="Row" />}
      <div className="tools">
        {data && <Copy text={JSON.stringify(data)}>Copy as JSON</Copy>}
        <Commands command={['table', 'get', table, row]} path={path} />
      </div>
      <History path={`changes/${pathOf(table, ...key)}`} now={data && JSON.stringify(data.value)} />
    </aside>
  )
}

/** @param now the row as it is: another one has another history */
function History({ path, now }: { path: string; now: string | undefined }) {
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
    <section aria-labelledby="history">
      <h2 id="history">History</h2>
      {isView ? (
        <p className="quiet">A view has none: its rows follow from others.</p>
      ) : (
        error && <Problem error={error} />
      )}
      {changes.map((change) => (
        <Changed key={`${change.token} ${JSON.stringify(change.after)}`} change={change} />
      ))}
      {data && !hasNextPage && (
        <p className="quiet">
          {changes.length === 0 ? 'No change is kept' : 'No earlier change is kept'}: stories are kept from{' '}
          {data.pages[0]!.keptFrom} on.
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
}: {
  change: RowChange
}) {
  return (
    <section className="change" aria-label={`Change at ${token}`}>
      <h3>
        <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>
          {minuteTime(at)}
        </time>{' '}
        {type} {requestId !== undefined && <RequestLink id={requestId} principal={principal} />}{' '}
        <RecordLink token={token} />
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
