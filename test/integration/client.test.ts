import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createEngine, type Engine, HenceError, type Service } from 'hence'
import { type Change, client, connect, memory } from 'hence/client'
import { createKey, server } from 'hence/server'
import { type MemoryStorage, memoryStorage } from 'hence/testing'
import type * as made from '../apps/passbook.ts'
import { appsOf } from '../apps.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/passbook.ts'))
const bank = await apps.bank()

// The client, and `connect`, against a real server and engine.

type Bank = typeof made.bank

/** A server that can be stopped and started again at the same address, as in a deploy. */
class House {
  readonly #data: MemoryStorage = memoryStorage({ partitions: 4 })
  readonly #keys: string | undefined
  engine!: Engine<Bank>
  #web!: ReturnType<typeof server>
  #port = 0

  constructor(keys?: string) {
    this.#keys = keys
  }

  async start(): Promise<this> {
    this.engine = await createEngine({ app: bank, data: this.#data, report: () => {} })
    this.#web = server(this.engine, {
      report: () => {},
      ...(this.#keys === undefined ? { open: true } : { keys: this.#keys }),
    })
    this.#port = (await this.#web.listen({ port: this.#port })).port
    return this
  }

  async stop(): Promise<void> {
    await this.#web.close()
    await this.engine.close()
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }
}

async function house(t: TestContext, keys?: string): Promise<House> {
  const made = await new House(keys).start()
  t.after(() => made.stop())
  return made
}

const backoff = { firstMs: 2, mostMs: 50 }

test('all outcomes, and reads that include accepted requests on any partition', async (t) => {
  const { url } = await house(t)
  const hence = client<Bank>({ url, outbox: memory(), backoff })
  t.after(() => hence.close())
  let cents = 0
  for (let i = 0; i < 50; i++) {
    const reply = await hence.submit('deposit', { account: `a${i}`, cents: i + 100 })
    assert.equal(reply.status, 'accepted')
    cents += i + 100
    // The sum is in another partition, which the event of a request may reach after its reply.
    if (i % 10 === 9) assert.deepEqual(await hence.get('sums', ['all']), { cents })
  }
  assert.equal((await hence.scan('accounts')).length, 50)
  assert.deepEqual(await hence.scan('accounts', { from: ['a47'], limit: 2 }), [
    { key: ['a47'], value: { owner: '', cents: 147 } },
    { key: ['a48'], value: { owner: '', cents: 148 } },
  ])
  assert.deepEqual(await hence.get('entries', ['a3', 0]), { cents: 103 })
  assert.equal(await hence.get('entries', ['a3', 1]), undefined)

  const failed = await hence.submit('deposit', { account: 'a1', cents: 13 }, { requestId: 'unlucky' })
  assert.ok(failed.status === 'failed')
  assert.equal(failed.code, 'derivation-threw')
  const again = await hence.submit('deposit', { account: 'a1', cents: 13 }, { requestId: 'unlucky' })
  assert.deepEqual(again, { ...failed, replayed: true })
  await assert.rejects(
    hence.submit('deposit', { account: 'a1', cents: 14 }, { requestId: 'unlucky' }),
    (error) => error instanceof HenceError && error.code === 'request-id-reused',
  )
  await assert.rejects(
    hence.submit('deposit', { account: 'a1', cents: -1 }),
    (error) => error instanceof HenceError && error.code === 'input-invalid' && /cents/.test(error.message),
  )
  // Nobody can have accepted it, so it gets an id of today.
  const requestId = '00000000-0000-7000-8000-000000000000'
  const renewed = await hence.submit('deposit', { account: 'a1', cents: 1 }, { requestId })
  assert.equal(renewed.status, 'accepted')
  assert.notEqual(renewed.requestId, requestId)
})

test('partition keys that would be ambiguous in an address', async (t) => {
  const { url } = await house(t)
  const hence = client<Bank>({ url, outbox: memory(), backoff })
  t.after(() => hence.close())
  for (const account of ['.', '..', 'a/b', 'ä ü', '%2e%2e', '?x=1#y', 'a+b', '"', '\\', '🦊']) {
    const reply = await hence.submit('deposit', { account, cents: 5 })
    assert.equal(reply.status, 'accepted', account)
    assert.deepEqual(await hence.get('accounts', [account]), { owner: '', cents: 5 }, account)
    assert.deepEqual(await hence.get('entries', [account, 0]), { cents: 5 }, account)
  }
})

test('a subscription and a retried request across a restart of the server', async (t) => {
  const served = await house(t)
  const hence = client<Bank>({ url: served.url, outbox: memory(), backoff })
  t.after(() => hence.close())
  const changes: Change<Bank, 'accounts'>[] = []
  let anew = 0
  let told: (() => void) | undefined
  const opened = new Promise<void>((resolve) => {
    const begin = () => {
      anew++
      resolve()
    }
    hence.subscribe({ tables: ['accounts'], prefix: ['a1'], anew: begin }, (some) => {
      changes.push(...some)
      told?.()
    })
  })
  await opened
  const until = (count: number) =>
    new Promise<void>((resolve) => {
      told = () => changes.length >= count && resolve()
      told()
    })
  await hence.submit('deposit', { account: 'a1', cents: 1 })
  await hence.submit('deposit', { account: 'a2', cents: 1 })
  await until(1)
  await served.stop()
  const late = hence.submit('deposit', { account: 'a1', cents: 2 })
  await new Promise((resolve) => hence.on('retrying', resolve))
  await served.start()
  // Changes made while the stream is down are delivered too.
  await served.engine.submit('deposit', { account: 'a1', cents: 4 }, { requestId: 'd4' })
  assert.equal((await late).status, 'accepted')
  await until(3)
  assert.deepEqual(
    changes.map(({ key, before, after }) => [key[0], before?.cents ?? 0, after?.cents]).map(String),
    [
      ['a1', 0, 1],
      ...(changes[1]!.after!.cents === 3
        ? [
            ['a1', 1, 3],
            ['a1', 3, 7],
          ]
        : [
            ['a1', 1, 5],
            ['a1', 5, 7],
          ]),
    ].map(String),
  )
  assert.equal(anew, 1, 'the subscription started again')
})

test('the same code runs on an engine and on a connection to it', async (t) => {
  const { engine, url } = await house(t)
  const remote = connect<Bank>(url, { backoff })
  t.after(() => remote.close())

  const use = async (service: Service<Bank>, name: string) => {
    const heard: string[] = []
    let told: (() => void) | undefined
    const stop = service.subscribe((changes) => {
      for (const { table, key } of changes) heard.push(`${table} ${key.join(' ')}`)
      told?.()
    })
    // A stream delivers changes made after it is open, so make changes until it delivers one.
    const until = (entry: string) =>
      new Promise<void>((resolve) => {
        told = () => heard.includes(entry) && resolve()
        told()
      })
    let i = 0
    const opened = until(`accounts ${name}-probe`)
    let isOpen = false
    void opened.then(() => {
      isOpen = true
    })
    while (!isOpen) {
      const requestId = `${name}-probe-${i++}`
      await service.submit('deposit', { account: `${name}-probe`, cents: 1 }, { requestId })
    }
    heard.length = 0
    const input = { account: name, cents: 500 }
    const reply = await service.submit('deposit', input, { requestId: `${name}-1` })
    assert.equal(reply.status, 'accepted')
    const { token } = await service.enqueue('deposit', input, { requestId: `${name}-2` })
    const row = await service.get('accounts', [name], { after: [reply.token, token] })
    const rows = await service.scan('accounts', { prefix: [name] })
    const then = { at: reply.token }
    const past = [
      await service.get('accounts', [name], then),
      await service.scan('accounts', { prefix: [name] }, then),
    ]
    await until(`entries ${name} 1`)
    stop()
    return {
      row,
      rows,
      past,
      heard: heard.filter((each) => !each.includes('probe') && !each.startsWith('sums')),
    }
  }

  const expected = (name: string) => ({
    row: { owner: '', cents: 1000 },
    rows: [{ key: [name], value: { owner: '', cents: 1000 } }],
    past: [{ owner: '', cents: 500 }, [{ key: [name], value: { owner: '', cents: 500 } }]],
    heard: [`accounts ${name}`, `entries ${name} 0`, `accounts ${name}`, `entries ${name} 1`],
  })
  assert.deepEqual(await use(engine, 'here'), expected('here'))
  assert.deepEqual(await use(remote, 'there'), expected('there'))
})

test('API keys: each reads and sends as its principal; after a revocation requests wait for a new key', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'hence-client-keys-'))
  t.after(() => rm(folder, { recursive: true }))
  const path = join(folder, 'keys.json')
  const ann = await createKey(path, { name: 'ann', principal: 'ann', permissions: ['submit'] })
  const bob = await createKey(path, { name: 'bob', principal: 'bob', permissions: ['submit'] })
  const { url } = await house(t, path)
  const hers = client<Bank>({ url, outbox: memory(), backoff, key: ann.secret })
  let key = 'hence_wrong'
  const his = client<Bank>({ url, outbox: memory(), backoff, key: () => key })
  t.after(() => Promise.all([hers.close(), his.close()]))

  await hers.submit('deposit', { account: 'a1', cents: 500 })
  const stuck = new Promise<string | undefined>((resolve) => {
    his.on('stuck', ({ problem }) => resolve(problem?.code))
  })
  const late = his.submit('deposit', { account: 'a1', cents: 100 })
  assert.equal(await stuck, 'not-authenticated')
  assert.equal((await his.pending()).length, 1)
  key = bob.secret
  his.retry()
  const reply = await late
  assert.ok(reply.status === 'rejected')
  assert.equal(reply.reason, 'not-yours')
  assert.deepEqual(await hers.get('accounts', ['a1']), { owner: 'ann', cents: 500 })
  assert.equal(await his.get('accounts', ['a1']), undefined)
  await assert.rejects(
    his.get('sums', ['all']),
    (error) => error instanceof HenceError && error.code === 'not-allowed',
  )
})
