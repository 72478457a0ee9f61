import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { KeyPart, TableChange } from '../app/index.ts'
import { onAbort, pause } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { type Asking, pauseMs } from './backoff.ts'
import { notUnderstood, problemOf, retryAfterMs } from './exchange.ts'
import { undisturbed } from './listeners.ts'

/** A stream that is silent for this long is given up. Servers send a sign of life every 15 s. */
const silentMsMax = 45_000
/** The longest event that is accepted, in characters. */
const eventLengthMax = 64 * 1024 * 1024

interface Followed {
  /** The tables to follow; none means all that the caller may read. */
  readonly tables: readonly string[]
  /** Only rows whose key begins with these parts. */
  readonly prefix?: readonly KeyPart[] | undefined
  readonly from?: string | undefined
}

interface FollowListener {
  /**
   * Earlier changes are unknown: read the tables. Called when the stream first opens, unless it resumes from
   * a position, and whenever it could not resume where it broke off.
   */
  anew(): void
  changes(changes: readonly TableChange[], position: string): void
  /** It cannot go on, and retrying would not help. */
  ended(error: HenceError): void
}

interface UserListener extends Pick<FollowListener, 'changes'> {
  readonly anew?: FollowListener['anew'] | undefined
  readonly ended?: FollowListener['ended'] | undefined
}

/** Follows as `follow` does, for listeners of users: one that throws disturbs nothing. Returns its end. */
export function subscribe(
  followed: Followed,
  { anew, changes, ended }: UserListener,
  options: Asking & { readonly closing: AbortSignal },
): () => void {
  const stop = new AbortController()
  const listener: FollowListener = {
    anew: () => undisturbed(() => anew?.()),
    changes: (...given) => undisturbed(() => changes(...given)),
    ended: (error) => undisturbed(() => ended?.(error)),
  }
  const signal = AbortSignal.any([stop.signal, options.closing])
  void follow(followed, listener, { ...options, signal })
  return () => stop.abort()
}

/** Follows changed rows by server-sent events, over any number of connections, until the signal aborts. */
export async function follow(
  followed: Followed,
  listener: FollowListener,
  options: Asking & { readonly signal: AbortSignal; readonly silentMs?: number },
): Promise<void> {
  const { exchange, clock, signal, silentMs = silentMsMax } = options
  let position = followed.from
  let failures = 0
  while (!signal.aborted) {
    let askedMs: number | undefined
    try {
      await stream()
    } catch (error) {
      if (signal.aborted) return
      const problem = error instanceof HenceError ? error : undefined
      if (problem?.code === 'position-unknown') {
        position = undefined
        continue
      }
      if (problem?.advice === 'change' && problem.code !== notAuthenticated) return listener.ended(problem)
    }
    failures++
    await pause(clock, pauseMs(options, failures, askedMs), signal)

    /** One connection, until it ends. */
    async function stream(): Promise<void> {
      const lost = new AbortController()
      const stop = () => lost.abort()
      const forget = onAbort(signal, stop)
      let silence = setTimeout(stop, silentMs)
      try {
        const resumes = position
        const headers = {
          accept: 'text/event-stream',
          ...(resumes !== undefined && { 'last-event-id': resumes }),
        }
        const path = `/changes${queryOf(followed)}`
        const response = await exchange.open({ path, headers, signal: lost.signal })
        const type = response.headers.get('content-type') ?? ''
        if (response.status !== 200 || !type.startsWith('text/event-stream') || response.body === null) {
          const answer = await exchange.read(response)
          askedMs = retryAfterMs(answer, clock.now())
          throw problemOf(answer) ?? notUnderstood(answer)
        }
        const onEvent = (event: EventSourceMessage) => hear(event, resumes)
        const parser = createParser({ onEvent, maxBufferSize: eventLengthMax })
        const decoder = new TextDecoder()
        const reader = response.body.getReader()
        for (;;) {
          const { done, value } = await reader.read()
          if (done) return
          clearTimeout(silence)
          silence = setTimeout(stop, silentMs)
          parser.feed(decoder.decode(value, { stream: true }))
        }
      } finally {
        clearTimeout(silence)
        forget()
        lost.abort()
      }
    }
  }

  function hear({ event, id, data }: EventSourceMessage, resumes: string | undefined): void {
    // Events that were read ahead when the listener ended the subscription are dropped.
    if (signal.aborted) return
    if (event === 'problem') throw problemOf({ body: JSON.parse(data) }) ?? notUnderstood({ status: 200 })
    if (id === undefined) return
    failures = 0
    position = id
    if (event === 'open' && resumes === undefined) listener.anew()
    if (event === 'changes') listener.changes(JSON.parse(data), id)
  }
}

/** After a login, or with a renewed key, the subscription goes on. */
const notAuthenticated = 'not-authenticated'

function queryOf({ tables, prefix }: Followed): string {
  const fields = tables.map((table) => ['table', table] as [string, string])
  if (prefix !== undefined) fields.push(['prefix', JSON.stringify(prefix)])
  return fields.length === 0 ? '' : `?${new URLSearchParams(fields)}`
}
