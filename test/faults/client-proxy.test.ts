import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, type Reply } from 'hence'
import { type Client, client, memory, type Outbox } from 'hence/client'
import { file } from 'hence/client/file'
import { server } from 'hence/server'
import { memoryStorage } from 'hence/testing'
import { randomFrom } from '../random.ts'
import { BadProxy, type Fault, faults } from './bad-proxy.ts'
import { expected, type Wish } from './ledger.ts'
import type till from './till.ts'

// Clients reach a server through a proxy that cuts, delays and duplicates at every stage of an exchange. They
// are also closed and opened again on their outboxes. Each request must be decided once, in the order of its
// queue, and every reply must agree with the tables.

const count = Number(process.env['HENCE_REQUESTS'] ?? 400)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const clients = 4
const openMax = 64
const reopenEvery = Math.min(600, Math.floor(count / clients / 3))

test(`${count} requests through a bad proxy (HENCE_SEED=${seed})`, { timeout: 600_000 }, async (t) => {
  const random = randomFrom(seed)
  const below = (n: number) => Math.floor(random() * n)
  const engine = await createEngine<typeof till>({
    app: import.meta.resolve('./till.ts'),
    data: memoryStorage({ partitions: 3 }),
    report: () => {},
  })
  const web = server(engine, { open: true, report: () => {} })
  const { port } = await web.listen()
  const draw = (): Fault | 'none' => (random() < 0.4 ? faults[below(faults.length)]! : 'none')
  // A try of which the proxy is late is given up at once. A limit of time would, in a process that gets
  // little of a processor, give up every try before its answer is read.
  const tries = new Map<string, AbortController>()
  const patient: typeof fetch = (input, init) => {
    const name = `${tries.size}`
    const patience = new AbortController()
    tries.set(name, patience)
    const signal = init?.signal ? AbortSignal.any([init.signal, patience.signal]) : patience.signal
    const headers = new Headers(init?.headers)
    headers.set('x-try', name)
    return fetch(input, { ...init, headers, signal })
  }
  const proxy = await BadProxy.listen({
    port,
    draw,
    afterMs: () => below(300),
    isLate: ({ headers }) => tries.get(`${headers['x-try']}`)!.abort(),
  })
  const folder = await mkdtemp(join(tmpdir(), 'hence-proxy-'))
  t.after(async () => {
    await proxy.close()
    await web.close()
    await engine.close()
    await rm(folder, { recursive: true })
  })

  const wishes = new Map<string, Wish>()
  const told = new Map<string, Reply>()
  /** The ids of each queue of each client, in the order of their submission. */
  const queues = new Map<string, string[]>()
  const counts = { retries: 0, toldAgain: 0, reopened: 0 }

  /** Runs one client, from its first request until all of them are decided. */
  const live = async (number: number): Promise<void> => {
    const outbox: Outbox = number % 2 ? memory() : file(join(folder, `outbox-${number}`))
    const mine = Math.floor(count / clients)
    let made = 0
    let decided = 0
    let hence: Client<typeof till>
    let failure: unknown
    const end = Promise.withResolvers<void>()
    const submit = (): void => {
      const id = `c${number}-${made++}`
      const into = `till ${below(12)}`
      const wish: Wish =
        random() < 0.2
          ? { id, type: 'empty', input: { till: into } }
          : { id, type: 'pay', input: { till: into, town: `town ${below(7)}`, cents: 1 + below(200) } }
      wishes.set(id, wish)
      const queue = `${number} ${into}`
      queues.set(queue, [...(queues.get(queue) ?? []), id])
      hence.submit(wish.type, wish.input as never, { requestId: id, queue }).catch((error) => {
        if (error?.code !== 'client-closed') fail(error)
      })
    }
    const fail = (error: unknown) => {
      failure ??= error
      end.resolve()
    }
    const open = () => {
      hence = client<typeof till>({
        url: proxy.url,
        outbox,
        parallel: 16,
        fetch: patient,
        backoff: { firstMs: 2, mostMs: 40 },
        random,
      })
      hence.on('retrying', () => counts.retries++)
      hence.on('refused', ({ error }) => fail(error))
      hence.on('decided', ({ requestId, reply }) => {
        const before = told.get(requestId)
        const { replayed: _, ...outcome } = reply
        if (before !== undefined) {
          counts.toldAgain++
          try {
            assert.deepEqual(outcome, before)
          } catch (error) {
            fail(error)
          }
          return
        }
        told.set(requestId, outcome as Reply)
        if (++decided === mine) return end.resolve()
        if (decided % reopenEvery === 0) return void reopen().catch(fail)
        if (!isClosing) while (made < mine && made - decided < openMax) submit()
      })
    }
    let isClosing = false
    const reopen = async () => {
      isClosing = true
      await hence.close()
      counts.reopened++
      isClosing = false
      open()
      while (made < mine && made - decided < openMax) submit()
    }
    open()
    while (made < mine && made - decided < openMax) submit()
    await end.promise
    await hence!.close()
    if (failure) throw failure
  }

  const start = performance.now()
  await Promise.all(Array.from({ length: clients }, (_, number) => live(number)))
  const seconds = (performance.now() - start) / 1000

  assert.equal(told.size, wishes.size)
  await engine.idle()
  const seen = { tills: await engine.scan('tills'), towns: await engine.scan('towns') }
  assert.deepEqual(seen, expected({ wishes, told }))

  // Queues keep their order: the payments into a till were numbered in the order of their submission.
  for (const ids of queues.values()) {
    const payments = ids.flatMap((id) => {
      const reply = told.get(id)!
      return reply.status === 'accepted' && wishes.get(id)!.type === 'pay'
        ? [(reply.value as { payments: number }).payments]
        : []
    })
    assert.deepEqual(
      payments,
      [...payments].sort((a, b) => a - b),
    )
  }

  // A retry gets the same reply.
  for (const { id, type, input } of wishes.values()) {
    const { replayed, ...outcome } = await engine.submit(type, input as never, { requestId: id })
    assert.equal(replayed, true)
    assert.deepEqual(outcome, told.get(id))
  }
  for (const fault of faults)
    assert.ok((proxy.counts.get(fault) ?? 0) > count / 200, `${fault} was hardly tried`)
  const accepted = [...told.values()].filter(({ status }) => status === 'accepted').length
  t.diagnostic(
    `${JSON.stringify({ ...counts, accepted, rejected: told.size - accepted })} in ${seconds.toFixed(1)} s`,
  )
  t.diagnostic(JSON.stringify(Object.fromEntries(proxy.counts)))
})
