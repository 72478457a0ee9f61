import assert from 'node:assert/strict'
import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createEngine, type Engine, type EngineOptions, HenceError, type Standby } from 'hence'
import { connect } from 'hence/client'
import { server } from 'hence/server'
import { CarrierStore, memoryCarrier } from '../../src/testing/memory-carrier.ts'
import type poison from '../../test/apps/poison.ts'
import type sales from '../../test/apps/sales.ts'
import { engineHome } from '../../test/engine-home.ts'
import type { Carrier } from '../log/carrier.ts'
import type { Reporter } from '../report.ts'

type Poison = typeof poison
type Sales = typeof sales

test('a standby answers reads, says how old they are, and takes over', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  let isCut = false
  const start = async (name: string, more: Partial<EngineOptions<Sales>> = {}) => {
    const log = memoryCarrier(store, { isConditional: true })
    const ends = async () => {
      if (isCut) throw new HenceError('carrier-unreachable', 'retry', 'It is cut.')
      return store.partitions.map(({ length }) => length)
    }
    return closing(
      await createEngine<Sales>({
        app: import.meta.resolve('../../test/apps/sales.ts'),
        views: [import.meta.resolve('../../test/apps/sales-views.ts')],
        ...{ data: join(home, name), log: { ...log, ends }, partitions: 3, address: `http://${name}` },
        ...{ report: () => {}, signal, ...more },
      }),
    )
  }
  const buy = (engine: Engine<Sales>, order: string) => {
    const input = { order, sku: `sku-${order.length}`, customer: `c-${order}`, cents: 500 }
    return engine.submit('buy', input, { requestId: `r-${order}` })
  }
  const active = await start('a')
  for (const order of ['x', 'yy', 'zz']) await buy(active, order)
  const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Sales>>()
  let told: object | undefined
  let toldFirst: object | undefined
  const next = start('b', {
    wait: true,
    progress: (far) => {
      told = far
    },
    standby: (each) => {
      toldFirst = told
      standby(each)
    },
  })
  const reads = await offered
  // It says that it has caught up once it has, whether or not it can look again.
  const { of } = toldFirst as { of: number }
  assert.deepEqual(toldFirst, { derived: of, of, follows: 'http://a' })

  // Reads behind a token wait until the copy has it, and the views have folded it.
  const { token } = await buy(active, 'www')
  assert.deepEqual(await reads.get('orders', ['www'], { after: token }), await active.get('orders', ['www']))
  assert.deepEqual(await reads.get('totals', ['c-www'], { after: token }), { cents: 500 })
  const view = reads.get('by-sku' as never, ['sku-3'] as never, { after: token })
  assert.deepEqual(await view, { orders: 1, cents: 500 })
  const journal = (from: { scan: (...given: never[]) => unknown }, after: string) =>
    from.scan('journal' as never, {} as never, { after } as never)
  assert.deepEqual(await journal(reads, token), await journal(active, token))
  assert.deepEqual(await reads.story('r-www'), await active.story('r-www'))
  assert.equal(await reads.story('r-none'), undefined)
  await assert.rejects(reads.get('orders', ['x'], { after: 'no-token' }), { code: 'token-unknown' })

  // Rules and permissions hold as they do elsewhere.
  const rights: Record<string, 'read' | 'operate'> = { reader: 'read', operator: 'operate' }
  const web = server(reads, {
    report: () => {},
    authenticate: ({ headers }) => {
      const principal = headers.get('x-user') ?? ''
      return { principal, permissions: [rights[principal] ?? 'submit'] }
    },
  })
  const ask = async (method: string, path: string, headers: Record<string, string> = {}) => {
    const answer = await web.fetch(new Request(`http://b${path}`, { method, headers }))
    const text = await answer.text()
    const code = /"code":"([\w-]+)"/.exec(text)?.[1]
    return { status: answer.status, code, age: answer.headers.get('hence-age'), text }
  }
  const found = await ask('GET', `/tables/orders/www?after=${token}`, { 'x-user': 'reader' })
  assert.deepEqual([found.status, found.text.includes('"sku-3"')], [200, true])
  assert.match(found.age!, /^\d+$/)
  assert.equal((await ask('GET', '/tables/orders/www', { 'x-user': 'sender' })).code, 'not-allowed')
  assert.equal((await ask('GET', '/tables/by-sku/sku-3', { 'x-user': 'sender' })).status, 200)
  const exact = { 'x-user': 'reader', 'hence-age-max': '0' }
  const post = { 'x-user': 'sender', 'idempotency-key': '"r-new"', 'content-type': 'application/json' }
  const metrics = (await ask('GET', '/metrics', { 'x-user': 'operator' })).text
  assert.match(metrics, /^hence_records_applied\{partition="0"\} \d+$/m)
  assert.match(metrics, /^hence_standby_age_seconds [\d.e-]+$/m)
  assert.doesNotMatch(metrics, /^hence_oldest_effect_age_seconds \d|undefined|NaN/m)
  for (const refused of [
    await ask('GET', '/tables/orders/www', exact),
    await ask('GET', '/readyz'),
    await ask('GET', '/changes', { 'x-user': 'reader' }),
    await ask('POST', '/requests/buy', post),
  ]) {
    assert.deepEqual([refused.status, refused.code], [503, 'engine-standby'])
    assert.match(refused.text, /http:\/\/a is active/)
  }

  // While the carrier cannot be reached, the answers grow older, and say so.
  isCut = true
  while (reads.ageMs < 1_000) await turn()
  assert.deepEqual(await reads.get('orders', ['x']), await active.get('orders', ['x']))
  assert.ok(Number((await ask('GET', '/tables/orders/x', { 'x-user': 'reader' })).age) >= 1_000)
  isCut = false

  const position = await active.viewPosition('by-sku')
  await active.close()
  const taken = await next
  // A follower of a view resumes with the new process where it was.
  const sold = await buy(taken, 'vvvv')
  const bySku = taken.get('by-sku' as never, ['sku-4'] as never, { after: sold.token })
  assert.deepEqual(await bySku, { orders: 1, cents: 500 })
  for await (const { changes } of taken.changes({ from: position, view: 'by-sku' })) {
    if (changes.some(({ key }) => key[0] === 'sku-4')) break
  }
  await assert.rejects(reads.get('orders', ['x']), { code: 'engine-standby' })
  assert.equal((await buy(taken, 'www')).token, token)
  assert.equal((await buy(taken, 'vvvv')).status, 'accepted')
  await web.close()
})

test('a standby derives no record on which the active process may still rule', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  let isHeld = false
  const { promise: looked, resolve: release } = Promise.withResolvers<void>()
  const start = async (name: string, carrier: Partial<Carrier>, more: Partial<EngineOptions<Poison>>) => {
    return closing(
      await createEngine<Poison>({
        app: import.meta.resolve('../../test/apps/poison.ts'),
        ...{
          data: join(home, name),
          log: { ...memoryCarrier(store), ...carrier },
          address: `http://${name}`,
        },
        ...{ report: () => {}, signal, ...more },
      }),
    )
  }
  // The ruling of the active process comes late.
  const { append } = memoryCarrier(store)
  const late: typeof append = async (...given) => {
    if (isHeld) await looked
    return append(...given)
  }
  const active = await start('a', { append: late }, { derivationMs: 20 })
  const before = await active.submit('count', { jar: 'x' }, { requestId: 'r-1' })
  const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Poison>>()
  let looks = 0
  const ends = async () => {
    if (isHeld && ++looks === 5) release()
    return store.partitions.map(({ length }) => length)
  }
  const next = start('b', { ends }, { wait: true, standby })
  const reads = await offered
  assert.deepEqual(await reads.get('counts', ['x'], { after: before.token }), { n: 1 })

  const length = store.of(0).length
  const sent = active.submit('walk', { jar: 'x', step: 1e-7 }, { requestId: 'r-2' })
  while (store.of(0).length === length) await turn()
  isHeld = true
  const reply = await sent
  assert.equal(reply.status, 'failed')
  assert.deepEqual(await reads.get('counts', ['x'], { after: reply.token }), { n: 1 })
  await active.close()
  const taken = await next
  assert.deepEqual(await taken.get('counts', ['x']), { n: 1 })
  const again = await taken.submit('walk', { jar: 'x', step: 1e-7 }, { requestId: 'r-2' })
  assert.deepEqual([again.status, again.token], [reply.status, reply.token])
})

test('an active process that cannot reach the log says how old its reads are, and sends writers elsewhere', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  let isCut = false
  const start = async (name: string, carrier: Carrier, more: Partial<EngineOptions<Sales>> = {}) =>
    closing(
      await createEngine<Sales>({
        app: import.meta.resolve('../../test/apps/sales.ts'),
        ...{ data: join(home, name), log: carrier, address: `http://${name}`, report: () => {}, signal },
        ...more,
      }),
    )
  const whole = memoryCarrier(store)
  // Each call to the carrier fails while the line is cut.
  const behindLine = new Proxy(whole, {
    get(_, name: keyof Carrier) {
      const member = whole[name]
      if (typeof member !== 'function') return member
      return (...given: never[]) => {
        if (isCut) throw new HenceError('carrier-unreachable', 'retry', 'It is cut.')
        return (member as (...given: never[]) => unknown)(...given)
      }
    },
  })
  const active = await start('a', behindLine)
  const buy = { order: 'x', sku: 'sku', customer: 'c', cents: 500 }
  await active.submit('buy', buy, { requestId: 'r-1' })
  const next = start('b', memoryCarrier(store), { wait: true })
  const web = server(active, {
    report: () => {},
    authenticate: () => ({ principal: '', permissions: ['admin'] }),
  })
  const urls = ['http://a', 'http://b']
  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await web.fetch(new Request(`http://a${path}`, { headers }))
    const { code } = (await answer.json().catch(() => ({}))) as { code?: string }
    return { status: answer.status, code, age: answer.headers.get('hence-age') }
  }
  const exact = { 'hence-age-max': '0' }
  assert.deepEqual(await ask('/tables/orders/x', exact), { status: 200, code: undefined, age: null })

  isCut = true
  const taken = await next
  const { token } = await taken.submit('buy', { ...buy, order: 'y' }, { requestId: 'r-2' })
  const unsure = { status: 503, code: 'engine-unsure', age: null }
  assert.deepEqual(await ask('/tables/orders/x', exact), unsure)
  assert.equal((await ask(`/tables/orders/y?after=${token}`)).status, 503)
  assert.equal((await ask('/readyz')).status, 503)
  assert.match((await ask('/tables/orders/x')).age!, /^[2-9]\d{3}$|^\d{5,}$/)
  const other = server(taken, {
    report: () => {},
    authenticate: () => ({ principal: '', permissions: ['admin'] }),
  })
  const hence = connect<Sales>(urls, {
    fetch: (url, init) => (`${url}`.startsWith('http://a') ? web : other).fetch(new Request(url, init)),
  })
  assert.deepEqual(await hence.get('orders', ['y'], { after: token }), await taken.get('orders', ['y']))
  // A client that sends to the process that is cut off finds the other one.
  const writer = connect<Sales>(urls, {
    fetch: (url, init) => (`${url}`.startsWith('http://a') ? web : other).fetch(new Request(url, init)),
  })
  assert.equal((await writer.submit('buy', { ...buy, order: 'z' }, { requestId: 'r-3' })).status, 'accepted')
  assert.ok(await taken.get('orders', ['z']))
  isCut = false
  while ((await active.health()).ready) await turn()
  await Promise.all([web.close(), other.close()])
})

/** Returns a function that starts an engine of the sales on a carrier, in a folder of its name. */
function startsSales({ home, signal, closing }: Awaited<ReturnType<typeof engineHome>>) {
  return async (name: string, carrier: Carrier, more: Partial<EngineOptions<Sales>> = {}) =>
    closing(
      await createEngine<Sales>({
        app: import.meta.resolve('../../test/apps/sales.ts'),
        ...{ data: join(home, name), log: carrier, partitions: 3, address: `http://${name}` },
        ...{ report: () => {}, signal, ...more },
      }),
    )
}

function buy(engine: Engine<Sales>, order: string) {
  return engine.submit('buy', { order, sku: 's', customer: 'c', cents: 5 }, { requestId: `r-${order}` })
}

test('a note of the process before that comes late stops nobody', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  const start = startsSales({ home, signal, closing })
  const whole = memoryCarrier(store)
  // As where a commit waits for a synchronous replica: what was sent takes effect much later.
  const { promise: later, resolve: release } = Promise.withResolvers<void>()
  let isHeld = false
  const active = await start('a', {
    ...whole,
    async put(name, bytes) {
      if (name === 'active' && isHeld) await later
      await whole.put(name, bytes)
    },
  })
  await buy(active, 'x')
  const next = start('b', memoryCarrier(store), { wait: true })
  isHeld = true
  const taken = await next
  await buy(taken, 'y')
  const holder = async () => JSON.parse(String(await whole.get('active'))).address
  assert.equal(await holder(), 'http://b')
  release()
  while ((await holder()) !== 'http://a') await turn()
  while ((await holder()) !== 'http://b') await turn()
  assert.deepEqual(await taken.health(), { ready: true })
  assert.equal((await buy(taken, 'z')).status, 'accepted')
  while ((await active.health()).ready) await turn()
})

test('all machines sign with one key, and one without it does not start', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  const start = startsSales({ home, signal, closing })
  const codes: string[] = []
  const report: Reporter = ({ code }) => codes.push(code)
  const audited = (name: string, more: object = {}) =>
    start(name, memoryCarrier(store), { audit: true, wait: true, report, ...more })
  const signer = (name: string) => readFile(join(home, name, 'signer.pem'), 'utf8')
  const active = await audited('a')
  await buy(active, 'x')
  await active.audit.head()
  await assert.rejects(audited('b'), { code: 'signing-key-missing' })

  await cp(join(home, 'a/audit'), join(home, 'b/audit'), { recursive: true })
  const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Sales>>()
  const next = audited('b', { standby })
  await offered
  await active.close()
  const taken = await next
  await buy(taken, 'y')
  await taken.audit.head()
  assert.equal(await signer('b'), await signer('a'))
  await taken.close()
  assert.ok(!codes.includes('heads-lost'), codes.join())

  // A key that was made where nobody knew of the log.
  const alone = await start('c', memoryCarrier(new CarrierStore()), { audit: true })
  await buy(alone, 'x')
  await alone.audit.head()
  await alone.close()
  await cp(join(home, 'c/audit'), join(home, 'd/audit'), { recursive: true })
  await assert.rejects(audited('d'), { code: 'signing-key-mismatch' })
  const other = await audited('d', { audit: { newKey: true } })
  await other.close()
  await assert.rejects(audited('b'), { code: 'signing-key-mismatch' })
})

test('of two standbys that see the log released one takes it, and the other follows that one', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  const start = startsSales({ home, signal, closing })
  const active = await start('a', memoryCarrier(store))
  await buy(active, 'x')
  const waiting = async (name: string, carrier: Carrier) => {
    const { promise, resolve: standby } = Promise.withResolvers<Standby<Sales>>()
    const next = start(name, carrier, { wait: true, standby })
    return { next, reads: await promise }
  }
  // One of them is slow: it sees that the log is free, and goes on when the other has it.
  const whole = memoryCarrier(store)
  const { promise: saw, resolve: sees } = Promise.withResolvers<void>()
  const { promise: goesOn, resolve: go } = Promise.withResolvers<void>()
  const slow = await waiting('slow', {
    ...whole,
    async get(name) {
      const text = await whole.get(name)
      if (name !== 'active' || JSON.parse(String(text)).beat !== undefined) return text
      sees()
      await goesOn
      return text
    },
  })
  const fast = await waiting('fast', whole)
  await active.close()
  await saw
  const taken = await fast.next
  go()
  const { token } = await buy(taken, 'y')
  assert.deepEqual(await slow.reads.get('orders', ['y'], { after: token }), await taken.get('orders', ['y']))
  assert.equal((await buy(taken, 'z')).status, 'accepted')
  assert.deepEqual(await taken.health(), { ready: true })
  await taken.close()
  assert.equal((await buy(await slow.next, 'z')).replayed, true)
})

test('a start that waits says that the carrier cannot be reached, and goes on once it can', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const start = startsSales({ home, signal, closing })
  const carrier = memoryCarrier()
  let [calls, reports] = [0, [] as string[]]
  const away: Carrier = {
    ...carrier,
    async facts(made) {
      if (++calls > 2) return carrier.facts(made)
      throw new HenceError('carrier-unreachable', 'retry', 'The database is starting up.')
    },
  }
  await assert.rejects(start('a', away), { code: 'carrier-unreachable' })
  const report: Reporter = ({ level, code, message }) => reports.push(`${level} ${code} ${message}`)
  calls = 0
  const engine = await start('a', away, { wait: true, report })
  assert.deepEqual(reports.splice(0), [
    'warning carrier-unreachable The database is starting up. This start waits for it.',
  ])
  await engine.close()
  // Where waiting does not help, it ends.
  const unusable: Carrier = {
    ...carrier,
    get: async () => {
      throw new HenceError('carrier-unusable', 'operator', 'The password is wrong.')
    },
  }
  await assert.rejects(start('b', unusable, { wait: true }), { code: 'carrier-unusable' })
})

for (const broken of ['append', 'put'] as const) {
  test(`a standby whose take-over fails (${broken}) follows the one that was faster`, async (t) => {
    const { home, signal, closing } = await engineHome(t)
    const store = new CarrierStore()
    const start = startsSales({ home, signal, closing })
    const buy = (engine: Engine<Sales>, order: string) =>
      engine.submit(
        'buy',
        { order, sku: 'sku', customer: `c-${order}`, cents: 500 },
        { requestId: `r-${order}` },
      )
    const active = await start('a', memoryCarrier(store))
    await buy(active, 'x')

    let isCut = false
    const { promise: failed, resolve: fails } = Promise.withResolvers<void>()
    const cut = () => {
      if (!isCut) return
      fails()
      throw new HenceError('carrier-unreachable', 'retry', 'It is cut.')
    }
    const whole = memoryCarrier(store)
    const slow: Carrier = {
      ...whole,
      async append(...given) {
        if (broken === 'append') cut()
        return whole.append(...given)
      },
      async put(...given) {
        if (broken === 'put') cut()
        return whole.put(...given)
      },
    }
    const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Sales>>()
    const next = start('b', slow, { wait: true, standby })
    const reads = await offered
    isCut = true
    await active.close()
    await failed
    const faster = await start('c', memoryCarrier(store))
    const { token } = await buy(faster, 'y')
    isCut = false
    assert.deepEqual(await reads.get('orders', ['y'], { after: token }), await faster.get('orders', ['y']))
    assert.equal((await buy(faster, 'z')).status, 'accepted')
    await faster.close()
    assert.equal((await buy(await next, 'z')).replayed, true)
  })
}
