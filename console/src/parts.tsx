import { Link } from '@tanstack/react-router'
import { lazy, type ReactNode, Suspense, useState } from 'react'
import type { Query } from './api.ts'
import { shortId } from './format.ts'

// Small parts that several views use.

export function Outcome({ value, corrected }: { value: string | undefined; corrected?: string | undefined }) {
  if (value === undefined) return <span className="outcome waits">undecided</span>
  return (
    <span className={`outcome ${value}`}>
      {value}
      {corrected !== undefined && <span className="corrected"> → {corrected}</span>}
    </span>
  )
}

export function State({ value }: { value: string }) {
  return <span className={`outcome ${value}`}>{value}</span>
}

interface RequestLinkProps {
  readonly id: string
  readonly principal: string | undefined
  /** Default: its id, shortened. */
  readonly children?: ReactNode
}

export function RequestLink({ id, principal, children = shortId(id) }: RequestLinkProps) {
  return (
    <Link to="/request" search={{ id, ...(principal && { principal }) }} className="id" title={id}>
      {children}
    </Link>
  )
}

export function RecordLink({ token }: { token: string }) {
  const [partition = 0, offset = 0] = token.split(':').map(Number)
  return (
    <Link to="/log" search={{ partition, from: offset, record: token }} className="id" title="In the log">
      {token}
    </Link>
  )
}

/** JSON, one member a line, with a colour for each kind of value. */
export function Json({ value, label }: { value: unknown; label: string }) {
  return (
    <section className="json-box" aria-label={label}>
      <pre className="json">{coloured(JSON.stringify(value, null, 2) ?? 'nothing')}</pre>
    </section>
  )
}

const lexer = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g
/** A longer text is shown without colours. */
const colouredMax = 20_000

function coloured(text: string): ReactNode {
  if (text.length > colouredMax) return text
  const parts: ReactNode[] = []
  let end = 0
  for (const match of text.matchAll(lexer)) {
    const [all, string, colon, word, number] = match
    parts.push(text.slice(end, match.index))
    const look = colon ? 'name' : string ? 'string' : word ? 'word' : 'number'
    parts.push(
      <span key={match.index} className={`j-${look}`}>
        {string ?? word ?? number}
      </span>,
    )
    parts.push(colon ?? '')
    end = match.index + all.length
  }
  return [...parts, text.slice(end)]
}

export interface Equivalent {
  /** The command line, without `hence` and the address. */
  readonly command: readonly string[]
  readonly path: string
  readonly query?: Query
  /** Of a request: its body; it takes an id. */
  readonly body?: unknown
  /** Its id; default: a new one. */
  readonly requestId?: string
}

const CommandPopover = lazy(() => import('./commands.tsx'))

/** The same as a command line and as curl. */
export function Commands(equivalent: Equivalent) {
  const [isAsked, setIsAsked] = useState(false)
  const button = (
    <button type="button" className="tool" aria-haspopup="dialog" onClick={() => setIsAsked(true)}>
      CLI · curl
    </button>
  )
  if (!isAsked) return button
  return (
    <Suspense fallback={button}>
      <CommandPopover {...equivalent} />
    </Suspense>
  )
}

/** A value that is copied by a click. */
export function Copy({ text, children = 'Copy' }: { text: string; children?: ReactNode }) {
  const [isDone, setIsDone] = useState(false)
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setIsDone(true)
      setTimeout(() => setIsDone(false), 1_500)
    })
  }
  return (
    <button type="button" className="tool" onClick={copy}>
      {isDone ? 'Copied' : children}
    </button>
  )
}

export function Facts({
  of,
}: {
  of: readonly (readonly [name: string, value: ReactNode] | false | undefined)[]
}) {
  return (
    <dl className="facts">
      {of.map(
        (fact) =>
          fact && (
            <div key={fact[0]}>
              <dt>{fact[0]}</dt>
              <dd>{fact[1]}</dd>
            </div>
          ),
      )}
    </dl>
  )
}

/** A message in which code stands between backticks. */
export function Words({ of }: { of: string }) {
  // biome-ignore lint/suspicious/noArrayIndexKey: a text has the same parts in the same order
  return of.split('`').map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>
}

interface VitalProps {
  readonly name: string
  readonly value: ReactNode
  readonly more?: string
  readonly title?: string | undefined
  readonly look?: 'bad' | undefined
}

export function Vital({ name, value, more, title, look }: VitalProps) {
  return (
    <div className="vital" title={title}>
      <dt>{name}</dt>
      <dd className={look}>{value}</dd>
      {more !== undefined && <dd className="more">{more}</dd>}
    </div>
  )
}
