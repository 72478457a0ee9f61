import { keepPreviousData, useInfiniteQuery, useQueries, useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from 'react'
import { type FullRecord, get, type LogPage, type LogRecord } from '../api.ts'
import { brief, count, exactTime, fullTime } from '../format.ts'
import { useMe } from '../live.ts'
import { Commands, Copy, Empty, Facts, Json, Outcome, RecordLink, RequestLink } from '../parts.tsx'
import { Page, Problem } from '../shell.tsx'

const route = getRouteApi('/log')

/** One record a row. */
const rowHeight = 30
const pageSize = 100
/** Browsers end an element at about 33 million pixels, so that many rows are in it, and slide over the log. */
const windowRows = 200_000
/** Nearer than this to an end of the window, it slides by half. */
const slideAt = 2_000
const beyond = 999_999_999_999_999

export function Log() {
  const search = route.useSearch()
  const { partition = 0, type, principal, outcome, key, where, record } = search
  const isFiltered = [type, principal, outcome, key, where].some((filter) => filter !== undefined)
  return (
    <Page
      title="Log"
      tools={
        <Commands
          command={['log', 'cat', '--data', 'data', '--partition', String(partition), '--json']}
          path="log"
          query={{ partition, from: search.from ?? 0, type, principal, outcome, key, where }}
        />
      }
    >
      <Filters />
      <div className={`split ${record === undefined ? '' : 'has-detail'}`}>
        {isFiltered ? (
          <Found key={JSON.stringify([partition, type, principal, outcome, key, where])} />
        ) : (
          <Tail key={partition} />
        )}
        {record !== undefined && <Detail token={record} />}
      </div>
    </Page>
  )
}

function Filters() {
  const { partition = 0, type = '', principal = '', outcome = '', key = '', where = '' } = route.useSearch()
  const navigate = route.useNavigate()
  const me = useMe()
  const set = (change: object) =>
    void navigate({ search: (before) => ({ ...before, from: undefined, record: undefined, ...change }) })
  const from = async (since: number) => {
    if (Number.isNaN(since)) return
    const page = await get<LogPage>('log', { partition, since, limit: 1 })
    set({ from: page.from })
  }
  return (
    <form className="filters" onSubmit={(event) => event.preventDefault()}>
      <label>
        Partition
        <select
          value={partition}
          disabled={key !== ''}
          title={key === '' ? undefined : 'That of the key'}
          onChange={({ target }) => set({ partition: Number(target.value) })}
        >
          {Array.from({ length: me.data?.partitions ?? 1 }, (_, n) => n).map((n) => (
            <option key={n}>{n}</option>
          ))}
        </select>
      </label>
      <label>
        Type
        <select value={type} onChange={({ target }) => set({ type: target.value || undefined })}>
          <option value="">all</option>
          {[...(me.data?.requests ?? []), 'result', 'control', 'tick', 'correction', 'ruling', 'filled'].map(
            (name) => (
              <option key={name}>{name}</option>
            ),
          )}
        </select>
      </label>
      <label>
        Outcome
        <select value={outcome} onChange={({ target }) => set({ outcome: target.value || undefined })}>
          <option value="">all</option>
          <option>accepted</option>
          <option>rejected</option>
          <option>failed</option>
        </select>
      </label>
      <TypedFilter
        label="Sent by"
        value={principal}
        placeholder="anybody"
        set={(principal) => set({ principal })}
      />
      <TypedFilter label="Partition key" value={key} placeholder="any" set={(key) => set({ key })} />
      <TypedFilter
        label="Field"
        value={where}
        placeholder="name=value"
        set={(typed) => set({ where: typed?.includes('=') ? typed : undefined })}
      />
      <label>
        From time
        <input
          type="datetime-local"
          step={1}
          onChange={({ target }) => void from(new Date(target.value).getTime())}
        />
      </label>
    </form>
  )
}

interface TypedFilterProps {
  readonly label: string
  readonly value: string
  readonly placeholder: string
  set(value: string | undefined): void
}

/** A filter that holds once it is left, or with Enter. */
function TypedFilter({ label, value, placeholder, set }: TypedFilterProps) {
  const done = (typed: string) => typed !== value && set(typed.trim() || undefined)
  return (
    <label>
      {label}
      <input
        key={value}
        defaultValue={value}
        placeholder={placeholder}
        onBlur={({ target }) => done(target.value)}
        onKeyDown={({ key, currentTarget }) => key === 'Enter' && done(currentTarget.value)}
      />
    </label>
  )
}

/** The offset of the next record, from the server once a second. */
function useEnd(partition: number) {
  return useQuery({
    queryKey: ['log-end', partition],
    queryFn: ({ signal }) => get<LogPage>('log', { partition, from: beyond, limit: 1 }, signal),
    refetchInterval: 1_000,
    placeholderData: keepPreviousData,
  })
}

/** All records of a partition by offset, as a window that slides over them; it follows the end, or stands still. */
function Tail() {
  const { partition = 0, from } = route.useSearch()
  const { data, error } = useEnd(partition)
  if (data === undefined) return error ? <Problem error={error} /> : <p className="quiet">Loading…</p>
  return (
    <div className="log">
      {error && <Problem error={error} />}
      <SlidingRows partition={partition} end={data.end} from={from} />
    </div>
  )
}

function SlidingRows({ partition, end, from }: { partition: number; end: number; from: number | undefined }) {
  const navigate = route.useNavigate()
  const { record } = route.useSearch()
  const frame = useRef<HTMLDivElement>(null)
  const [isFollowing, setIsFollowing] = useState(from === undefined)
  const baseFor = (offset: number) => Math.max(0, Math.min(end - windowRows, offset - windowRows / 2))
  const [base, setBase] = useState(() => baseFor(from ?? end))
  const rows = Math.min(windowRows, end - base)
  const virtual = useVirtualizer({
    count: rows,
    getScrollElement: () => frame.current,
    estimateSize: () => rowHeight,
    overscan: 12,
  })
  // Where the window is scrolled to once its rows are drawn.
  const pending = useRef<number>(undefined)
  const place = (at: number, scrollTop: number) => {
    if (at === base) {
      frame.current!.scrollTop = scrollTop
      return
    }
    pending.current = scrollTop
    setBase(at)
  }
  // biome-ignore lint/correctness/useExhaustiveDependencies: it scrolls when the window has slid
  useLayoutEffect(() => {
    if (pending.current === undefined) return
    frame.current!.scrollTop = pending.current
    pending.current = undefined
  }, [base])
  const goTo = (offset: number, align: 'start' | 'nearest' | 'end') => {
    const at = offset >= base && offset < base + rows ? base : baseFor(offset)
    const { clientHeight, scrollTop } = frame.current!
    const start = (offset - at) * rowHeight
    const end = start + rowHeight - clientHeight
    const nearest = at === base ? Math.min(start, Math.max(end, scrollTop)) : start
    place(at, align === 'start' ? start : align === 'end' ? end : nearest)
  }
  const slide = () => {
    if (pending.current !== undefined) return
    const { clientHeight, scrollTop } = frame.current!
    const left = (rows * rowHeight - clientHeight - scrollTop) / rowHeight
    const more = end - base - windowRows
    const by =
      scrollTop / rowHeight < slideAt && base > 0
        ? -Math.min(base, windowRows / 2)
        : left < slideAt && more > 0
          ? Math.min(more, windowRows / 2)
          : 0
    if (by !== 0) place(base + by, scrollTop - by * rowHeight)
  }

  // biome-ignore lint/correctness/useExhaustiveDependencies: it goes there when it is opened, or another is asked for
  useEffect(() => {
    if (from !== undefined) goTo(from, 'start')
  }, [from, partition])
  // biome-ignore lint/correctness/useExhaustiveDependencies: it goes to the end when that has moved
  useEffect(() => {
    if (isFollowing && end > 0) goTo(end - 1, 'end')
  }, [isFollowing, end])

  const items = virtual.getVirtualItems()
  const first = items[0]?.index ?? 0
  const last = items.at(-1)?.index ?? 0
  // The rows in sight, without those that are drawn before they come into it.
  const top = base + Math.max(0, Math.min(rows - 1, Math.round((virtual.scrollOffset ?? 0) / rowHeight)))
  const bottom = Math.min(end, top + Math.floor((frame.current?.clientHeight ?? 0) / rowHeight))
  const pages = usePages(partition, base + first, base + last, end)
  const select = (offset: number | undefined) =>
    void navigate({
      search: (before) => ({
        ...before,
        record: offset === undefined ? undefined : `${partition}:${offset}`,
      }),
      replace: record !== undefined,
      resetScroll: false,
    })
  const onKeyDown = (event: KeyboardEvent) => {
    const selected = record === undefined ? undefined : Number(record.split(':')[1])
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key]
    if (step !== undefined) {
      event.preventDefault()
      const next = Math.max(0, Math.min(end - 1, (selected ?? top) + (selected === undefined ? 0 : step)))
      setIsFollowing(false)
      select(next)
      goTo(next, 'nearest')
    } else if (event.key === 'Escape') select(undefined)
  }
  return (
    <div className="log">
      <div className="log-tools">
        <button
          type="button"
          className="tool"
          aria-pressed={isFollowing}
          onClick={() => setIsFollowing(!isFollowing)}
        >
          {isFollowing ? 'Following' : 'Follow the end'}
        </button>
        <label className="scrub">
          <span className="sr">Offset</span>
          <input
            type="range"
            min={0}
            max={Math.max(0, end - 1)}
            value={top}
            onChange={({ target }) => {
              setIsFollowing(false)
              goTo(Number(target.value), 'start')
            }}
          />
        </label>
        <label className="offset">
          Offset
          <input
            type="number"
            min={0}
            max={Math.max(0, end - 1)}
            key={from}
            defaultValue={from ?? ''}
            placeholder="any"
            onKeyDown={({ key, currentTarget }) => {
              if (key !== 'Enter' || currentTarget.value === '') return
              setIsFollowing(false)
              void navigate({ search: (before) => ({ ...before, from: Number(currentTarget.value) }) })
            }}
          />
        </label>
        <output className="quiet">
          {count(top)}–{count(bottom)} of {count(end)}
        </output>
      </div>
      <section
        className="rows"
        ref={frame}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls and selects by the keyboard
        tabIndex={0}
        aria-label="Records"
        onKeyDown={onKeyDown}
        onWheel={() => setIsFollowing(false)}
        onScroll={slide}
      >
        <div className="rows-space" style={{ height: virtual.getTotalSize() }}>
          {items.map(({ index, start }) => {
            const offset = base + index
            return (
              <div key={offset} className="row-place" style={{ transform: `translateY(${start}px)` }}>
                <RecordRow
                  token={`${partition}:${offset}`}
                  record={pages.get(offset)}
                  isSelected={record === `${partition}:${offset}`}
                />
              </div>
            )
          })}
        </div>
      </section>
    </div>
  )
}

/** The records of the pages that are in sight. */
function usePages(
  partition: number,
  first: number,
  last: number,
  end: number,
): ReadonlyMap<number, LogRecord> {
  const from = Math.floor(first / pageSize)
  const to = Math.floor(Math.max(first, last) / pageSize)
  const pages = useQueries({
    queries: Array.from({ length: end === 0 ? 0 : to - from + 1 }, (_, i) => {
      const start = (from + i) * pageSize
      // A full page stays as it is, but for outcomes that are not decided yet; the last one grows.
      const isFull = start + pageSize <= end
      return {
        queryKey: ['log', partition, start, isFull ? 'full' : end],
        queryFn: ({ signal }: { signal: AbortSignal }) =>
          get<LogPage>('log', { partition, from: start, limit: pageSize }, signal),
        staleTime: isFull ? 60_000 : 1_000,
        placeholderData: keepPreviousData<LogPage>,
      }
    }),
  })
  const records = new Map<number, LogRecord>()
  for (const { data } of pages) {
    for (const record of data?.records ?? []) records.set(Number(record.token.split(':')[1]), record)
  }
  return records
}

function RecordRow({
  token,
  record,
  isSelected,
}: {
  token: string
  record: LogRecord | undefined
  isSelected: boolean
}) {
  return (
    <Link
      from="/log"
      to="/log"
      search={(before) => ({ ...before, record: token })}
      resetScroll={false}
      className={`record ${isSelected ? 'selected' : ''}`}
      aria-current={isSelected}
      tabIndex={-1}
    >
      <span className="token">{token}</span>
      {record === undefined ? (
        <span className="quiet">…</span>
      ) : (
        <>
          <span className="time">{exactTime(record.at)}</span>
          <span className={`kind k-${record.kind}`}>{record.kind}</span>
          <span className="type">{record.type ?? record.effect ?? ''}</span>
          <span className="how">
            {record.kind === 'request' && <Outcome value={record.outcome} corrected={record.corrected} />}
          </span>
          <span className="who">{record.principal}</span>
          <span className="input">
            {brief(record.input ?? record.data ?? record.result ?? record.error, 140)}
          </span>
        </>
      )}
    </Link>
  )
}

/** Records that match, found by reading on; it says how many were looked at. */
function Found() {
  const { partition = 0, type, principal, outcome, key, where, from = 0, record } = route.useSearch()
  const query = useInfiniteQuery({
    queryKey: ['found', partition, type, principal, outcome, key, where, from],
    queryFn: ({ pageParam, signal }) =>
      get<LogPage>(
        'log',
        { partition, from: pageParam, type, principal, outcome, key, where, limit: pageSize },
        signal,
      ),
    initialPageParam: from,
    getNextPageParam: ({ next, end }) => (next < end ? next : undefined),
  })
  const { data, error, hasNextPage, isFetching, fetchNextPage } = query
  const found = data?.pages.flatMap(({ records }) => records) ?? []
  const looked = (data?.pages.at(-1)?.next ?? from) - from
  const end = data?.pages.at(-1)?.end ?? 0
  const pages = data?.pages.length ?? 0
  useEffect(() => {
    // It goes on by itself until there is something to see.
    if (hasNextPage && !isFetching && found.length < pageSize && pages < 200) void fetchNextPage()
  }, [hasNextPage, isFetching, found.length, pages, fetchNextPage])
  if (error) return <Problem error={error} />
  return (
    <div className="log">
      <div className="log-tools">
        <output className="quiet">
          {count(found.length)} found in {count(looked)} of {count(Math.max(0, end - from))} records
          {isFetching && ' …'}
        </output>
        {hasNextPage && (
          <button type="button" className="tool" onClick={() => void fetchNextPage()}>
            Look further
          </button>
        )}
      </div>
      <section
        className="rows"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls by the keyboard
        tabIndex={0}
        aria-label="Records"
      >
        {found.length === 0 && !isFetching && <Empty>No record matches.</Empty>}
        {found.map((each) => (
          <RecordRow key={each.token} token={each.token} record={each} isSelected={record === each.token} />
        ))}
      </section>
    </div>
  )
}

function Detail({ token }: { token: string }) {
  const { data, error } = useQuery({
    queryKey: ['record', token],
    queryFn: ({ signal }) => get<FullRecord>(`log/${encodeURIComponent(token)}`, {}, signal),
    placeholderData: keepPreviousData,
  })
  return (
    <aside className="detail" aria-label={`Record ${token}`}>
      <div className="section-head">
        <h2>Record {token}</h2>
        <Link from="/log" to="/log" search={(before) => ({ ...before, record: undefined })} className="tool">
          Close
        </Link>
      </div>
      {error && <Problem error={error} />}
      {data && <RecordDetail record={data} />}
    </aside>
  )
}

function RecordDetail({ record }: { record: FullRecord }) {
  const { token, at, kind, type, requestId, principal, cause, outcome, corrected, reason, effect } = record
  const { size, bytes, hashes, ...line } = record
  const [partition = 0, offset = 0] = token.split(':')
  const body = record.input ?? record.data ?? record.result ?? record.error
  return (
    <>
      <Facts
        of={[
          ['Kind', kind],
          type !== undefined && ['Type', type],
          [
            'Log time',
            <time
              key="t"
              dateTime={new Date(at).toISOString()}
            >{`${fullTime(at)}.${String(at % 1000).padStart(3, '0')}`}</time>,
          ],
          kind === 'request' && ['Outcome', <Outcome key="o" value={outcome} corrected={corrected} />],
          reason !== undefined && ['Reason', reason],
          requestId !== undefined && [
            'Request',
            <RequestLink key="r" id={requestId} principal={principal} />,
          ],
          !!principal && ['Sent by', principal],
          record.key !== undefined && ['Partition key', record.key],
          cause !== undefined && ['Caused by', <RecordLink key="c" token={cause} />],
          effect !== undefined && [
            'Effect',
            <Link key="e" to="/effects" search={{ id: effect }} className="id">
              {effect}
            </Link>,
          ],
          ['Size', `${count(size)} bytes`],
        ]}
      />
      <Json value={body ?? line} label="Content" />
      <h3>Hashes</h3>
      <Facts
        of={[
          ['Leaf', <Hash key="l" of={hashes.leaf} />],
          hashes.before !== undefined && [
            `Before batch ${hashes.batch}`,
            <Hash key="b" of={hashes.before} />,
          ],
        ]}
      />
      <details>
        <summary>Bytes</summary>
        <pre className="bytes">{hexDump(bytes)}</pre>
      </details>
      <div className="tools">
        <Copy text={JSON.stringify(line)}>Copy as JSON</Copy>
        <Commands
          command={[
            'log',
            'cat',
            '--data',
            'data',
            '--partition',
            partition as string,
            '--from',
            String(offset),
            '--limit',
            '1',
            '--json',
          ]}
          path={`log/${token}`}
        />
      </div>
    </>
  )
}

function Hash({ of }: { of: string }) {
  return <code className="hash">{of}</code>
}

const shownBytes = 4_096

/** Sixteen bytes a line: offset, hexadecimal, text. */
function hexDump(base64: string): string {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
  const lines: string[] = []
  for (let at = 0; at < Math.min(bytes.length, shownBytes); at += 16) {
    const line = [...bytes.subarray(at, at + 16)]
    const hex = line.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const text = line.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join('')
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${text}`)
  }
  if (bytes.length > shownBytes) lines.push(`… ${bytes.length - shownBytes} more`)
  return lines.join('\n')
}
