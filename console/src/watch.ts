import { useEffect, useRef, useState } from 'react'
import { addressOf, consolePath, key, type Problem, Refused } from './api.ts'

// One stream for all tabs of a browser: HTTP/1.1 has six connections to a server, and a seventh tab with a
// stream of its own would hang. The tab that holds a lock reads the changes of all tables that any tab
// watches, and passes on which tables have changed; when it closes, the next one gets the lock.

type Message =
  | { readonly kind: 'watches'; readonly tab: string; readonly tables: readonly string[] }
  | { readonly kind: 'who' }
  | { readonly kind: 'changed'; readonly tables: readonly string[] }
  | { readonly kind: 'refused'; readonly tables: readonly string[]; readonly problem: Problem }

interface Watcher {
  readonly table: string
  changed(): void
  refused(error: Error): void
}

/** How long the reading tab waits before it opens a stream again that has ended. */
const againMs = 1_000

/**
 * Calls back for the changes of a table until the signal aborts; also when the stream begins anew, since
 * changes may have been missed then.
 * @throws Refused if the server refuses to send them
 */
function watch(table: string, changed: () => void, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // Pages that came over http from another machine have no locks: each tab reads its own stream.
  const sharing = navigator.locks === undefined ? Promise.resolve(new Sharing(undefined)) : shared()
  void sharing.then((sharing) => {
    if (signal.aborted) return resolve()
    const watcher = { table, changed, refused: reject }
    sharing.add(watcher)
    signal.addEventListener('abort', () => {
      sharing.remove(watcher)
      resolve()
    })
  }, reject)
  return promise
}

/** Changes come in bursts: what shows them is read again once for each. */
const burstMs = 500

/**
 * Calls back after changes of a table.
 * @param ended called when the server refuses to send them
 * @returns why it does
 */
export function useWatch(
  table: string,
  isOn: boolean,
  changed: () => unknown,
  ended?: () => void,
): Error | undefined {
  const [error, setError] = useState<Error>()
  const latest = useRef({ changed, ended })
  latest.current = { changed, ended }
  useEffect(() => {
    if (!isOn) return
    const stop = new AbortController()
    setError(undefined)
    let isAsked = false
    const soon = () => {
      if (isAsked) return
      isAsked = true
      setTimeout(() => {
        isAsked = false
        if (!stop.signal.aborted) latest.current.changed()
      }, burstMs)
    }
    watch(table, soon, stop.signal).catch((error: Error) => {
      if (stop.signal.aborted) return
      setError(error)
      latest.current.ended?.()
    })
    return () => stop.abort()
  }, [table, isOn])
  return error
}

let ofTab: { readonly name: string; readonly sharing: Sharing } | undefined

/** The tabs of one sender share a stream: others may see other rows. */
async function shared(): Promise<Sharing> {
  const secret = new TextEncoder().encode(key.get() ?? '')
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', secret))
  const name = `hence ${consolePath} ${[...digest].map((byte) => byte.toString(16)).join('.')}`
  if (ofTab?.name !== name) ofTab = { name, sharing: new Sharing(name) }
  return ofTab.sharing
}

class Sharing {
  readonly #name: string | undefined
  readonly #tab = crypto.getRandomValues(new Uint32Array(4)).join('-')
  readonly #channel: BroadcastChannel | undefined
  readonly #watchers = new Set<Watcher>()
  /** The tables that other tabs watch, by tab; known to the tab that reads. */
  readonly #others = new Map<string, readonly string[]>()
  /** Ends the reading of this tab, or its waiting for the lock. */
  #ending: AbortController | undefined
  /** Ends the present stream, since other tables are watched. */
  #stream: AbortController | undefined

  /** @param name of the lock and the channel; undefined: the tab is alone */
  constructor(name: string | undefined) {
    this.#name = name
    if (name === undefined) return
    this.#channel = new BroadcastChannel(name)
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#received(data)
    addEventListener('pagehide', () => this.#send({ kind: 'watches', tab: this.#tab, tables: [] }))
  }

  add(watcher: Watcher): void {
    this.#watchers.add(watcher)
    this.#announce()
    if (this.#ending !== undefined) return
    this.#ending = new AbortController()
    const { signal } = this.#ending
    if (this.#name === undefined) void this.#read(signal)
    // Waiting for the lock ends with an error if nothing is watched any more.
    else navigator.locks.request(this.#name, { signal }, () => this.#read(signal)).catch(() => {})
  }

  remove(watcher: Watcher): void {
    if (!this.#watchers.delete(watcher)) return
    this.#announce()
    if (this.#watchers.size > 0) return
    this.#ending?.abort()
    this.#ending = undefined
  }

  get #own(): readonly string[] {
    return [...new Set([...this.#watchers].map(({ table }) => table))]
  }

  #announce(): void {
    this.#send({ kind: 'watches', tab: this.#tab, tables: this.#own })
    this.#stream?.abort()
  }

  #send(message: Message): void {
    this.#channel?.postMessage(message)
  }

  #received(message: Message): void {
    if (message.kind === 'who') this.#announce()
    else if (message.kind === 'watches') {
      const { tab, tables } = message
      const before = this.#others.get(tab)
      if (tables.length === 0) this.#others.delete(tab)
      else this.#others.set(tab, tables)
      if (tables.some((table) => !before?.includes(table))) this.#stream?.abort()
    } else this.#happened(message)
  }

  /** Something that concerns the watchers of all tabs. */
  #happened(message: Extract<Message, { kind: 'changed' | 'refused' }>): void {
    for (const watcher of [...this.#watchers]) {
      if (!message.tables.includes(watcher.table)) continue
      if (message.kind === 'changed') watcher.changed()
      else {
        this.remove(watcher)
        watcher.refused(new Refused(message.problem))
      }
    }
  }

  #pass(message: Extract<Message, { kind: 'changed' | 'refused' }>): void {
    this.#send(message)
    this.#happened(message)
  }

  /** Reads the changes of all that is watched, for all tabs, until the signal aborts. */
  async #read(signal: AbortSignal): Promise<void> {
    this.#send({ kind: 'who' })
    while (!signal.aborted) {
      const tables = [...new Set([...this.#own, ...[...this.#others.values()].flat()])]
      this.#stream = new AbortController()
      const ends = AbortSignal.any([signal, this.#stream.signal])
      try {
        await readChanges(tables, (tables) => this.#pass({ kind: 'changed', tables }), ends)
      } catch (error) {
        if (ends.aborted) continue
        if (error instanceof Refused && error.problem.advice !== 'retry') {
          await this.#refuse(tables, error.problem, ends)
        } else await new Promise((resolve) => setTimeout(resolve, againMs))
      }
    }
    this.#stream = undefined
    this.#others.clear()
  }

  /** One table that may not be watched must not end the watching of others. */
  async #refuse(tables: readonly string[], problem: Problem, signal: AbortSignal): Promise<void> {
    if (tables.length === 1) return this.#drop(tables, problem)
    for (const table of tables) {
      const opened = new AbortController()
      try {
        await readChanges([table], () => opened.abort(), AbortSignal.any([signal, opened.signal]))
      } catch (error) {
        if (error instanceof Refused) this.#drop([table], error.problem)
      }
    }
  }

  #drop(tables: readonly string[], problem: Problem): void {
    for (const [tab, watched] of this.#others) {
      this.#others.set(
        tab,
        watched.filter((table) => !tables.includes(table)),
      )
    }
    this.#pass({ kind: 'refused', tables, problem })
  }
}

/**
 * Reads the stream of changes of some tables by `fetch`, since `EventSource` cannot send a key.
 * @param changed called with the tables that have changed; with all when the stream has begun
 * @throws Refused if the server refuses or ends the stream with a problem
 */
async function readChanges(
  tables: readonly string[],
  changed: (tables: readonly string[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const secret = key.get()
  const url = addressOf('changes')
  for (const table of tables) url.searchParams.append('table', table)
  const response = await fetch(url, {
    signal,
    headers: secret ? { authorization: `Bearer ${secret}` } : {},
  })
  if (!response.ok || response.body === null) throw new Refused((await response.json()) as Problem)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) throw new Error('The stream has ended.')
    const events = `${rest}${value}`.split('\n\n')
    rest = events.pop() ?? ''
    for (const event of events) {
      const [, kind, data] = /^event: (\w+)\ndata: (.*)$/m.exec(event) ?? []
      if (kind === 'problem') throw new Refused(JSON.parse(data!) as Problem)
      if (kind === 'open') changed(tables)
      if (kind !== 'changes') continue
      const found = JSON.parse(data!) as readonly { readonly table: string }[]
      changed([...new Set(found.map(({ table }) => table))])
    }
  }
}
