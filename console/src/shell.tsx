import { useQueryClient } from '@tanstack/react-query'
import { type ErrorComponentProps, Link, Outlet, useRouterState } from '@tanstack/react-router'
import { type FormEvent, lazy, type ReactNode, Suspense, useEffect, useRef, useState } from 'react'
import { key, Refused } from './api.ts'
import { bounded } from './format.ts'
import { useMe, useOpenViolations, useStatus } from './live.ts'
import { Words } from './parts.tsx'
import { nextTheme, theme } from './theme.ts'

const views = [
  ['/', 'Overview'],
  ['/log', 'Log'],
  ['/request', 'Request'],
  ['/tables', 'Tables'],
  ['/violations', 'Violations'],
  ['/effects', 'Effects'],
  ['/send', 'Send'],
  ['/reprocess', 'Reprocess'],
  ['/audit', 'Audit'],
] as const

const Palette = lazy(() => import('./palette.tsx'))

/** The frame around every view; without a key that the server knows, the form that asks for one. */
export function Shell() {
  const me = useMe()
  const status = useStatus()
  const path = useRouterState({ select: ({ location }) => location.pathname })
  const main = useRef<HTMLElement>(null)
  const shown = useRef<string>(undefined)
  const [isFinding, setIsFinding] = useState(false)
  const view = views.find(([to]) => to !== '/' && path.endsWith(to))?.[1] ?? 'Overview'
  useEffect(() => {
    document.title = `${view} · ${me.data?.app ?? 'Hence'}`
    // A screen reader learns of another view by the focus; the first view keeps it where it was.
    if (shown.current !== undefined && shown.current !== view) main.current?.focus({ preventScroll: true })
    shown.current = view
    // On a phone the views are a row that scrolls.
    document.querySelector('.views .active')?.scrollIntoView({ block: 'nearest', inline: 'center' })
  }, [view, me.data?.app])

  const queries = useQueryClient()
  const isDown = me.error !== null || (status.error !== null && !(status.error instanceof Refused))
  useEffect(() => {
    // What failed meanwhile is read again; a refusal stays one.
    const predicate = ({ state: { error } }: { state: { error: unknown } }) =>
      error !== null && !(error instanceof Refused)
    if (!isDown) void queries.invalidateQueries({ predicate })
  }, [isDown, queries])

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'k' || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return
      event.preventDefault()
      setIsFinding(true)
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])

  if (me.error instanceof Refused && me.error.problem.status === 401) return <KeyForm />
  return (
    <div className="shell">
      {isFinding && (
        <Suspense>
          <Palette views={views} onClose={() => setIsFinding(false)} />
        </Suspense>
      )}
      <a className="skip" href="#main">
        Skip to the view
      </a>
      <header className="side">
        <Link to="/" className="brand">
          <Mark />
          <span>{me.data?.app ?? 'Hence'}</span>
        </Link>
        <nav className="views" aria-label="Views">
          {views.map(([to, name]) => (
            <Link key={to} to={to} activeOptions={{ exact: to === '/', includeSearch: false }}>
              {name}
              {name === 'Violations' && me.data && <OpenCount />}
            </Link>
          ))}
        </nav>
        <button
          type="button"
          className="theme find"
          aria-haspopup="dialog"
          onClick={() => setIsFinding(true)}
        >
          <span>Find</span> <kbd>Ctrl K</kbd>
        </button>
        <div className="side-end">
          <Readiness isDown={isDown} notReady={status.data?.notReady} />
          {me.data && <Caller principal={me.data.principal} permissions={me.data.permissions} />}
          <ThemeButton />
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {me.isPending ? (
          <p className="quiet">Loading…</p>
        ) : me.error ? (
          <Problem error={me.error} />
        ) : (
          <Outlet />
        )}
      </main>
    </div>
  )
}

function OpenCount() {
  const { rows, more } = useOpenViolations()
  if (rows.length === 0) return null
  return (
    <span className="badge" title="open">
      {bounded(rows.length, more)}
    </span>
  )
}

function Readiness({ isDown, notReady }: { isDown: boolean; notReady: string | undefined }) {
  const [look, words] = isDown
    ? ['bad', 'not reachable']
    : notReady !== undefined
      ? ['bad', notReady]
      : ['good', 'ready']
  return (
    <p className="readiness" role="status">
      <span className={`dot ${look}`} aria-hidden="true" /> {words}
    </p>
  )
}

function Caller({ principal, permissions }: { principal: string; permissions: readonly string[] }) {
  const queries = useQueryClient()
  const signOut = () => {
    key.remove()
    queries.clear()
    location.reload()
  }
  return (
    <p className="caller" title={permissions.join(', ')}>
      <span>{principal === '' ? 'this machine' : principal}</span>
      {key.get() !== undefined && (
        <button type="button" className="link" onClick={signOut}>
          Sign out
        </button>
      )}
    </p>
  )
}

function ThemeButton() {
  const [now, set] = useState(theme)
  return (
    <button type="button" className="theme" onClick={() => set(nextTheme())}>
      Theme: {now}
    </button>
  )
}

function KeyForm() {
  const queries = useQueryClient()
  const [isWrong, setIsWrong] = useState(key.get() !== undefined)
  const enter = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const secret = new FormData(event.currentTarget).get('key')
    if (typeof secret !== 'string' || secret.trim() === '') return
    key.set(secret.trim())
    setIsWrong(true)
    void queries.resetQueries()
  }
  return (
    <main className="key-form">
      <form onSubmit={enter}>
        <Mark />
        <h1>This server asks for a key</h1>
        <label htmlFor="key">API key</label>
        <input id="key" name="key" type="password" autoComplete="off" placeholder="hence_…" required />
        {isWrong && <p role="alert">The server does not know this key, or it has expired.</p>}
        <button type="submit" className="primary">
          Open the console
        </button>
        <p className="quiet">
          The key stays in this tab and is sent to this server alone. Make one with{' '}
          <code>hence keys create NAME --permission read operate</code>.
        </p>
      </form>
    </main>
  )
}

function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <circle cx="16" cy="9.5" r="3.4" />
      <circle cx="9" cy="21.5" r="3.4" />
      <circle cx="23" cy="21.5" r="3.4" />
    </svg>
  )
}

/** What went wrong, and what to do. */
export function Problem({ error }: { error: Error }) {
  const code = error instanceof Refused ? error.problem.code : 'not-reachable'
  const words =
    error instanceof Refused
      ? error.problem.detail
      : 'The server cannot be reached. The console keeps trying.'
  return (
    <div className="problem" role="alert">
      <strong>{code}</strong>
      <p>
        <Words of={words} />
      </p>
    </div>
  )
}

export function Page({
  title,
  tools,
  children,
}: {
  title: ReactNode
  tools?: ReactNode
  children: ReactNode
}) {
  return (
    <>
      <div className="page-head">
        <h1>{title}</h1>
        {tools && <div className="tools">{tools}</div>}
      </div>
      {children}
    </>
  )
}

/** A view that threw; the others still work. */
export function ViewFailed({ error, reset }: ErrorComponentProps) {
  return (
    <Page title="This view has failed">
      <div className="problem" role="alert">
        <p>{String(error)}</p>
      </div>
      <button type="button" className="tool" onClick={reset}>
        Try again
      </button>
    </Page>
  )
}

export function NothingHere() {
  return (
    <Page title="Nothing here">
      <p className="quiet">
        There is no such view. <Link to="/">Go to the overview.</Link>
      </p>
    </Page>
  )
}
