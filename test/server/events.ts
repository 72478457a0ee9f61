import assert from 'node:assert/strict'
import type { Served } from './serve.ts'

export interface Message {
  readonly id?: string
  readonly event?: string
  readonly data: string
}

/** A stream of changes that is being read. */
export interface Reading {
  /** The next event that is no comment; undefined at the end. */
  next(): Promise<Message | undefined>
  stop(): Promise<void>
}

/** Opens a stream of changes. */
export async function read({ call }: Served, who: string, path: string, headers = {}): Promise<Reading> {
  const response = await call(who, path, { headers })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/event-stream')
  const reader = response.body!.getReader()
  const decoder = new TextDecoder()
  let text = ''
  return {
    async next() {
      for (;;) {
        const end = text.indexOf('\n\n')
        if (end !== -1) {
          const lines = text.slice(0, end).split('\n')
          text = text.slice(end + 2)
          const fields = lines.filter((line) => !line.startsWith(':')).map((line) => line.split(/: (.*)/s, 2))
          if (fields.length > 0) return Object.fromEntries(fields)
        }
        const { done, value } = await reader.read()
        if (done) return undefined
        text += decoder.decode(value, { stream: true })
      }
    },
    stop: () => reader.cancel().catch(() => {}),
  }
}
