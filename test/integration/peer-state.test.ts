import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, type Engine, type EngineOptions, type Standby } from 'hence'
import { createKey, server } from 'hence/server'
import { CarrierStore, memoryCarrier } from '../../src/testing/memory-carrier.ts'
import type counter from '../apps/counter.ts'

type Counter = typeof counter

const requests = 3_000

test('a new standby begins with the state of another process, by HTTP, also if the line is cut', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-peer-'))
  const stop = new AbortController()
  const ends: (() => Promise<unknown>)[] = []
  t.after(async () => {
    stop.abort()
    for (const end of ends.reverse()) await end()
    await rm(home, { recursive: true })
  })
  const store = new CarrierStore()
  const reports = new Map<string, string[]>()
  const said = (name: string, code: string) => reports.get(name)!.find((each) => each.startsWith(`${code}: `))
  const start = async (name: string, more: Partial<EngineOptions<Counter>> = {}) => {
    reports.set(name, [])
    const engine = await createEngine<Counter>({
      app: import.meta.resolve('../apps/counter.ts'),
      ...{ data: join(home, name), log: memoryCarrier(store), partitions: 2, checkpointRows: 500 },
      report: ({ code, message }) => void reports.get(name)!.push(`${code}: ${message}`),
      ...more,
    })
    ends.push(() => engine.close())
    return engine
  }
  const keys = join(home, 'keys.json')
  const keyFor = async (name: string, permission: string) =>
    (await createKey(keys, { name, principal: name, permissions: [permission] })).secret
  const [stateKey, weakKey] = [await keyFor('standby', 'admin'), await keyFor('weak', 'operate')]
  /** Serves a process, and cuts the line in the middle of the first answers. */
  let cuts = 0
  const serve = async (of: Engine<Counter> | Standby<Counter>) => {
    const web = server(of, { keys, report: () => {} })
    const http = createServer((request, response) => {
      if (cuts > 0 && request.url === '/state') {
        cuts--
        const write = response.write.bind(response)
        response.write = (part: Buffer) => write(part.subarray(0, 1_000)) && !!response.destroy()
      }
      web.node(request, response)
    })
    http.listen(0, '127.0.0.1')
    await once(http, 'listening')
    ends.push(async () => {
      await web.close()
      http.closeAllConnections()
      http.close()
    })
    return `http://127.0.0.1:${(http.address() as AddressInfo).port}/`
  }

  const active = await start('a')
  const url = await serve(active)
  const fetched = (more: RequestInit = {}) =>
    fetch(`${url}state`, { headers: { authorization: `Bearer ${stateKey}` }, ...more })
  const early = await fetched()
  assert.equal(early.status, 404)
  assert.equal(((await early.json()) as { code: string }).code, 'no-state')
  const ids = Array.from({ length: requests }, (_, n) => `r-${n}`)
  const key = (n: number) => ({ key: `k${n % 50}` })
  await Promise.all(ids.map((requestId, n) => active.submit('count', key(n), { requestId })))
  // The first checkpoint is written beside the requests, and may end after them.
  for (let n = 0; (await fetched({ method: 'HEAD' })).status === 404; n++)
    await active.submit('count', key(n), { requestId: `later-${n}` })
  const digest = await active.digest()

  /** Starts a standby; resolves once it answers reads. */
  const follow = async (name: string, more: Partial<EngineOptions<Counter>>) => {
    const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Counter>>()
    const left = new AbortController()
    const signal = AbortSignal.any([left.signal, stop.signal])
    const taken = start(name, { ...more, wait: true, standby, signal })
    taken.catch(() => {})
    const reads = await offered
    assert.deepEqual(await reads.get('counts', ['k0']), await active.get('counts', ['k0']))
    const leave = async () => {
      left.abort()
      await assert.rejects(taken)
    }
    return { reads, taken, leave }
  }

  cuts = 2
  const b = await follow('b', { state: url, stateKey })
  assert.equal(cuts, 0)
  // An answer that nobody reads leaves nothing on the disk either.
  await (await fetched()).body!.cancel()
  assert.equal((await fetched({ method: 'HEAD' })).status, 200)
  assert.deepEqual(await readdir(join(home, 'a', 'state', 'copies')), [])

  for (const [name, key, why, cutsNow] of [
    ['without', undefined, /API key.*HENCE_STATE_KEY/, 0],
    ['weak', weakKey, /`admin`.*HENCE_STATE_KEY/, 0],
    ['cut', stateKey, /did not (come to its end|arrive whole)/, 99],
  ] as const) {
    cuts = cutsNow
    const refused = await follow(name, { state: url, ...(key && { stateKey: key }) })
    assert.match(said(name, 'state-refused')!, why)
    await refused.leave()
  }
  assert.equal(cuts, 96)
  cuts = 0

  const c = await follow('c', { state: await serve(b.reads), stateKey })
  for (const name of ['b', 'c']) assert.match(said(name, 'state-adopted')!, /with \d{3,} records/)
  await c.leave()
  await active.close()
  const taken = await b.taken
  assert.equal(await taken.digest(), digest)
  assert.equal((await taken.submit('count', key(0), { requestId: 'r-0' })).replayed, true)
  await taken.close()

  // With state of its own it asks nobody.
  reports.set('c', [])
  const last = await start('c', { state: 'http://127.0.0.1:9', stateKey })
  assert.equal(said('c', 'state-refused'), undefined)
  assert.equal(await last.digest(), digest)
})
