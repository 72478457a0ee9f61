import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** A server in a process of its own, which tests attack. */
export interface Victim {
  readonly url: string
  readonly port: number
  /** The memory of the process after a garbage collection, and the reports since the last call. */
  inspect(): Promise<{ residentBytes: number; reports: { code: string; message: string }[] }>
  /** A gauge of the server's metrics. */
  gauge(name: 'change_streams' | 'batches' | 'body_bytes'): Promise<number>
  /** Fails unless it serves a request. */
  assertHealthy(): Promise<void>
}

export async function start(t: TestContext, limits = {}): Promise<Victim> {
  const child: ChildProcess = fork(join(import.meta.dirname, 'http-server.ts'), [JSON.stringify(limits)], {
    execArgv: [...process.execArgv, '--expose-gc'],
  })
  t.after(async () => {
    if (child.exitCode !== null) return
    child.send('close')
    await once(child, 'exit')
  })
  const [{ port }] = (await once(child, 'message')) as [{ port: number }]
  const url = `http://127.0.0.1:${port}`
  // Each over a connection of its own: an idle one may be closed while a request is on its way to it, because
  // others crowd the server or because this process was kept waiting.
  const ask = (path: string, who: string, more: RequestInit = {}) =>
    fetch(url + path, {
      ...more,
      headers: { ...more.headers, authorization: `Test ${who}`, connection: 'close' },
    })
  let healthy = 0
  return {
    url,
    port,
    async inspect() {
      child.send('inspect')
      const [state] = await once(child, 'message')
      return state
    },
    async gauge(name) {
      const response = await ask('/metrics', 'operator')
      assert.equal(response.status, 200)
      const found = new RegExp(`^hence_${name} (\\d+)$`, 'm').exec(await response.text())
      assert.ok(found, name)
      return Number(found[1])
    },
    async assertHealthy() {
      const response = await ask('/requests/write', 'admin', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': `healthy-${healthy}` },
        body: JSON.stringify({ owner: 'healthy', number: healthy++, text: '' }),
      })
      assert.equal(response.status, 200)
      assert.equal((await ask('/readyz', 'admin')).status, 200)
    },
  }
}

export const mebibyte = 1024 * 1024

/** Opens connections, a few at a time, and writes to each. */
export async function openMany(port: number, count: number, text: (i: number) => string): Promise<Socket[]> {
  const sockets: Socket[] = []
  for (let from = 0; from < count; from += 200) {
    await Promise.all(
      Array.from({ length: Math.min(200, count - from) }, async (_, i) => {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => {})
        sockets.push(socket)
        await once(socket, 'connect')
        socket.write(text(from + i))
      }),
    )
  }
  return sockets
}
