import './palette.css'
import { useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type KeyboardEvent, useEffect, useRef, useState } from 'react'
import type { EffectState, LogPage, LogRecord, Me } from './api.ts'
import { get, pathOf } from './api.ts'
import { useMe } from './live.ts'

interface Target {
  readonly kind: string
  readonly name: string
  readonly to: string
  readonly search?: Readonly<Record<string, unknown>>
}

interface PaletteProps {
  readonly views: readonly (readonly [to: string, name: string])[]
  onClose(): void
}

/** Leads from any id, token, row or page name to its view. */
export default function Palette({ views, onClose }: PaletteProps) {
  const dialog = useRef<HTMLDialogElement>(null)
  const me = useMe()
  const queries = useQueryClient()
  const navigate = useNavigate()
  const [typed, setTyped] = useState('')
  const [chosen, setChosen] = useState(0)
  const text = typed.trim()
  const found = useLookup(text)
  useEffect(() => dialog.current?.showModal(), [])

  const pages: readonly Target[] = views
    .filter(([, name]) => name.toLowerCase().includes(text.toLowerCase()))
    .map(([to, name]) => ({ kind: 'View', name, to }))
  const known = queries
    .getQueriesData<LogPage>({ queryKey: ['latest'] })
    .flatMap(([, page]) => page?.records ?? [])
    .filter(({ kind, requestId }) => kind === 'request' && requestId?.startsWith(text))
    .slice(0, 8)
  const targets = [...found, ...pages, ...targetsOf(text, me.data, known)]
    .filter(({ to, search }, i, all) => {
      const same = (other: Target) =>
        other.to === to && JSON.stringify(other.search) === JSON.stringify(search)
      return all.findIndex(same) === i
    })
    .slice(0, 12)
  const at = Math.min(chosen, targets.length - 1)
  const go = ({ to, search }: Target) => {
    onClose()
    void navigate({ to, search } as never)
  }
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step !== undefined) setChosen(Math.max(0, Math.min(targets.length - 1, at + step)))
    else if (event.key === 'Enter' && targets[at]) go(targets[at])
    else return
    event.preventDefault()
  }
  return (
    <dialog ref={dialog} className="palette" aria-label="Go to" onClose={onClose}>
      <input
        role="combobox"
        aria-label="Id, token, table/key or view"
        aria-expanded={targets.length > 0}
        aria-controls="palette-list"
        aria-activedescendant={targets.length > 0 ? `palette-${at}` : undefined}
        placeholder="An id, 0:42, table/key, or a view"
        autoComplete="off"
        spellCheck={false}
        value={typed}
        onChange={({ target }) => {
          setTyped(target.value)
          setChosen(0)
        }}
        onKeyDown={onKey}
      />
      {targets.length === 0 ? (
        <p className="quiet" role="status">
          Nothing fits.
        </p>
      ) : (
        <div id="palette-list" role="listbox" aria-label="Places">
          {targets.map((target, i) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are those of the field
            <div
              key={`${target.to} ${JSON.stringify(target.search)}`}
              id={`palette-${i}`}
              role="option"
              tabIndex={-1}
              aria-selected={i === at}
              onClick={() => go(target)}
            >
              <span className="kind">{target.kind}</span>
              <span className="name">{target.name}</span>
            </div>
          ))}
        </div>
      )}
    </dialog>
  )
}

/** The places that a text may name by its form; requests that were seen here by the beginning of their id. */
function targetsOf(text: string, me: Me | undefined, known: readonly LogRecord[]): readonly Target[] {
  if (text === '') return []
  const targets: Target[] = []
  const token = /^(\d+):(\d+)$/.exec(text)
  if (token) {
    const [partition, from] = [Number(token[1]), Number(token[2])]
    targets.push({ kind: 'Record', name: text, to: '/log', search: { partition, from, record: text } })
  }
  const slash = text.indexOf('/')
  const table = me?.tables.find(({ name }) => name === text.slice(0, slash === -1 ? undefined : slash))
  if (table && slash === -1)
    targets.push({ kind: 'Table', name: table.name, to: '/tables', search: { table: table.name } })
  if (table && slash !== -1) {
    const row = JSON.stringify(keyOf(text.slice(slash + 1), table.key))
    targets.push({ kind: 'Row', name: text, to: '/tables', search: { table: table.name, row } })
  }
  for (const { requestId, principal, type } of known) {
    targets.push(request(requestId!, principal, `${type} ${requestId}`))
  }
  targets.push(request(text, undefined, text))
  if (slash > 0)
    targets.push(
      request(
        text.slice(slash + 1),
        text.slice(0, slash),
        `${text.slice(slash + 1)} of ${text.slice(0, slash)}`,
      ),
    )
  return targets
}

const request = (id: string, principal: string | undefined, name: string): Target => ({
  kind: 'Request',
  name,
  to: '/request',
  search: { id, ...(principal && { principal }) },
})

/** The parts of a key; slashes separate them, and the last takes those that are left. */
function keyOf(text: string, kinds: readonly string[]): readonly (string | number)[] {
  const split = text.split('/')
  const parts = [...split.slice(0, kinds.length - 1), split.slice(kinds.length - 1).join('/')]
  return parts.map((part, i) => (kinds[i] === 'string' ? part : Number(part)))
}

/** An effect or a violation of this id, if the server has one. */
function useLookup(text: string): readonly Target[] {
  const [found, setFound] = useState<readonly Target[]>([])
  useEffect(() => {
    setFound([])
    if (text.length < 12 || /\s/.test(text)) return
    const stop = new AbortController()
    const { signal } = stop
    const add = (target: Target) => !signal.aborted && setFound((before) => [...before, target])
    get<EffectState>(`effects/${pathOf(text)}`, {}, signal).then(
      ({ id, type, state }) =>
        add({ kind: 'Effect', name: `${type} ${id}`, to: '/effects', search: { state, id } }),
      () => undefined,
    )
    get<{ rows: { key: unknown[]; value: { state: string } }[] }>(
      'tables/hence.violations',
      { limit: 1_000 },
      signal,
    ).then(
      ({ rows }) => {
        const row = rows.find(({ key }) => key[1] === text)
        if (row)
          add({
            kind: 'Violation',
            name: text,
            to: '/violations',
            search: { state: row.value.state, id: text },
          })
      },
      () => undefined,
    )
    return () => stop.abort()
  }, [text])
  return found
}
