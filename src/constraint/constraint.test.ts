import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/stock.ts'
import { appsOf } from '../../test/apps.ts'
import type { CapacityOptions } from '../app/index.ts'
import { type Mode, scopes } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { scenario } from '../testing/scenario.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/stock.ts'))
const { shopWith } = apps

// A shop whose orders claim stock. The worst faults are a unit that two orders hold, and one that is lost.

for (const mode of ['strict', 'loose'] as const) {
  test(`${mode}: what is there can be claimed, and given back`, async () => {
    scenario(await shopWith({ mode }))
      .given('restock', { sku: 'mug', by: 2 })
      .given('place', { order: 'o1', skus: ['mug'] })
      .when('place', { order: 'o2', skus: ['mug', 'mug'].slice(1), name: 'ann' })
      .thenAccepted()
      .thenClaimed('stock', 'mug', 2)
      .thenClaimed('name-taken', 'ann', 1)
      .when('cancel', { order: 'o1' })
      .thenAccepted({ released: 1 })
      .thenClaimed('stock', 'mug', 1)
      .when('cancel', { order: 'o1' })
      .thenAccepted({ released: 0 })
      .thenClaimed('stock', 'mug', 1)
      .when('restock', { sku: 'mug', by: 0 })
      .thenAccepted({ limit: 2, claimed: 1, excess: 0 })
  })

  test(`${mode}: a request that is rejected or throws holds nothing`, async () => {
    const s = scenario(await shopWith({ mode, limit: 5 })).given('place', { order: 'o1', skus: ['mug'] })
    s.when('place', { order: 'o1', skus: ['mug', 'cup'] }).thenRejected('order-exists')
    s.when('place', { order: 'o2', skus: ['mug'], fail: 'reject' }).thenRejected('not-wanted')
    s.when('place', { order: 'o3', skus: ['mug'], fail: 'throw' }).thenFailed('derivation-threw')
    s.thenClaimed('stock', 'mug', 1).thenClaimed('stock', 'cup', 0).thenRow('orders', ['o2'], undefined)
  })
}

test('strict: a claim beyond the limit is rejected with the name of the constraint; all or nothing', async () => {
  scenario(await shopWith({ mode: 'strict', limit: 1 }))
    .given('place', { order: 'o1', skus: ['mug'] })
    .when('place', { order: 'o2', skus: ['cup', 'mug', 'urn'] })
    .thenRejected('stock', { key: 'mug' })
    .thenClaimed('stock', 'cup', 0)
    .thenClaimed('stock', 'urn', 0)
    .thenRow('orders', ['o2'], undefined)
    .given('place', { order: 'o3', skus: ['cup'], name: 'ann' })
    .when('place', { order: 'o4', skus: ['urn'], name: 'ann' })
    .thenRejected('name-taken', { key: 'ann' })
    .thenClaimed('stock', 'urn', 0)
})

test('strict: two claims on one key are added up', async () => {
  scenario(await shopWith({ mode: 'strict', limit: 3 }))
    .when('place', { order: 'o1', skus: ['mug', 'mug'] })
    .thenAccepted()
    .thenClaimed('stock', 'mug', 2)
    .when('place', { order: 'o2', skus: ['mug', 'mug'] })
    .thenRejected('stock')
})

test('loose: an excess is accepted, detected, compensated and apologised for', async () => {
  const s = scenario(await shopWith({ mode: 'loose', limit: 1 }))
    .given('place', { order: 'o1', skus: ['mug'] }, { principal: 'ann' })
    .when('place', { order: 'o2', skus: ['mug', 'cup'], name: 'bob' }, { principal: 'bob' })
    .thenAccepted()
    .thenRow('orders', ['o2'], { state: 'sorry', why: 'stock mug' })
    .thenEffect('sorry', { to: 'bob' })
    .thenClaimed('stock', 'mug', 1)
    .thenClaimed('stock', 'cup', 0)
    .thenClaimed('name-taken', 'bob', 0)
    .thenRow('orders', ['o1'], { state: 'placed' })
  const [violation, ...others] = s.violations()
  assert.deepEqual(others, [])
  assert.equal(violation!.state, 'resolved')
  assert.deepEqual(
    violation!.history.map(({ what, units }) => [what, units]),
    [
      ['noticed', 1],
      ['victims-chosen', 1],
      ['resolved', 0],
    ],
  )
  assert.deepEqual(violation!.victims, [
    { requestId: 'request-2', principal: 'bob', key: 'o2', units: 1, state: 'compensated' },
  ])
})

test('a falling limit is a violation for strictly granted claims too', async () => {
  const s = scenario(await shopWith({ mode: 'strict', limit: 3, victims: 'oldest' }))
    .given('place', { order: 'o1', skus: ['mug'] }, { principal: 'ann' })
    .given('place', { order: 'o2', skus: ['mug'] })
    .given('place', { order: 'o3', skus: ['mug'] })
    .when('restock', { sku: 'mug', by: -1 })
    .thenAccepted({ limit: 2, claimed: 3, excess: 1 })
    .thenRow('orders', ['o1'], { state: 'sorry', why: 'stock mug' })
    .thenEffects('sorry')
    .thenClaimed('stock', 'mug', 2)
  s.when('restock', { sku: 'mug', by: -9 }).thenClaimed('stock', 'mug', 0)
  assert.deepEqual(
    s.violations().map(({ victims }) => victims.map(({ key }) => key)),
    [['o1'], ['o2', 'o3']],
  )
})

test('victims are chosen by the policy', async () => {
  const victims = async (policy: CapacityOptions['victims'], ...priorities: (number | undefined)[]) => {
    const s = scenario(await shopWith({ mode: 'loose', limit: 9, ...(policy && { victims: policy }) }))
    for (const [i, priority] of priorities.entries()) {
      s.given('place', { order: `o${i}`, skus: ['mug'], ...(priority !== undefined && { priority }) })
    }
    s.given('restock', { sku: 'mug', by: 1 - 9 })
    return s.violations()[0]!.victims.map(({ key }) => key)
  }
  assert.deepEqual(await victims(undefined, 0, 0, 0), ['o2', 'o1'])
  assert.deepEqual(await victims('oldest', 0, 0, 0), ['o0', 'o1'])
  assert.deepEqual(await victims('lowest-priority', 5, 1, 3, 1), ['o3', 'o1', 'o2'])
})

test('confirmed claims give way last', async () => {
  const s = scenario(await shopWith({ mode: 'loose', limit: 3 }))
  for (const order of ['o1', 'o2', 'o3']) s.given('place', { order, skus: ['mug'] })
  s.given('confirm', { order: 'o3' })
    .given('restock', { sku: 'mug', by: -2 })
    .given('restock', { sku: 'mug', by: -1 })
  assert.deepEqual(
    s.violations().map(({ victims }) => victims.map(({ key }) => key)),
    [['o2', 'o1'], ['o3']],
  )
})

test('the margin counts until the constraint is settled, which releases unconfirmed claims', async () => {
  for (const [overbook, fits] of [
    [2, 12],
    [{ percent: 25 }, 12],
    [{ percent: 9 }, 10],
  ] as const) {
    const s = scenario(await shopWith({ mode: 'strict', limit: 10, overbook }))
    for (let i = 1; i <= fits; i++) s.given('place', { order: `o${i}`, skus: ['seat'] })
    s.when('place', { order: 'late', skus: ['seat'] }).thenRejected('stock')
    for (let i = 2; i <= fits; i++) s.given('confirm', { order: `o${i}` })
    s.when('settle', { sku: 'seat' })
      .thenAccepted({ gone: 1 })
      .thenClaimed('stock', 'seat', Math.min(10, fits - 1))
    assert.deepEqual(
      s.violations().flatMap((each) => each.victims.map(({ key }) => key)),
      fits === 12 ? ['o12'] : [],
    )
    s.when('cancel', { order: 'o1' }).thenAccepted({ released: 0 })
    s.when('place', { order: 'later', skus: ['seat'] })
    if (fits === 12) s.thenRejected('stock')
    else s.thenAccepted()
  }
})

test('a compensation that throws raises an alarm and changes nothing, and the claim is gone', async () => {
  const s = scenario(await shopWith({ mode: 'loose', limit: 1 }))
    .given('place', { order: 'o1', skus: ['mug'] })
    .when('place', { order: 'broken', skus: ['mug'] })
    .thenReactionFailed('hence:compensate', 'derivation-threw')
    .thenRow('orders', ['broken'], { state: 'placed' })
    .thenClaimed('stock', 'mug', 1)
  assert.equal(s.violations()[0]!.victims[0]!.state, 'failed')
})

test('invalid definitions and claims are refused', () => {
  const [product] = scopes('product')
  for (const options of [{ limit: -1 }, { limit: 0.5 }, { overbook: -1 }, { overbook: { percent: -1 } }]) {
    assert.throws(() => product.capacity('stock', options), { code: 'app-invalid' })
  }
  const stock = product.capacity('stock')
  const name = product.unique('name')
  for (const units of [0, -1, 0.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => stock.claim('mug', units), { code: 'claim-invalid' })
  }
  assert.throws(() => name.claim('ann', 2), { code: 'claim-invalid' })
})

const skusOf = (order: number) => [`sku${order % 4}`, `sku${(order * 7 + 1) % 4}`]

for (const partitions of [1, 4]) {
  for (const mode of ['strict', 'loose'] as Mode[]) {
    test(`${mode} on ${partitions} partitions: the engine gives what is there, to each once`, async () => {
      const shop = await shopWith({ mode, limit: 3 })
      const reports: string[] = []
      const engine = await createEngine({
        app: shop,
        data: memoryStorage({ partitions }),
        report: ({ level, message }) => level === 'alarm' && reports.push(message),
        handlers: { sorry: () => {} },
      })
      const replies = await Promise.all(
        Array.from({ length: 60 }, (_, i) =>
          engine.submit(
            'place',
            { order: `o${i}`, skus: skusOf(i) },
            { requestId: `r${i}`, principal: `p${i}` },
          ),
        ),
      )
      await engine.idle()
      const accepted = replies.filter(({ status }) => status === 'accepted').length
      const rows = await engine.scan('orders')
      const placed = rows.filter(({ value }) => value.state === 'placed').length
      assert.equal(accepted, mode === 'strict' ? placed : 60)
      const held = new Map<string, number>()
      for (const { key, value } of rows) {
        if (value.state !== 'placed') continue
        for (const sku of skusOf(Number(key[0].slice(1)))) held.set(sku, (held.get(sku) ?? 0) + 1)
      }
      for (let i = 0; i < 4; i++) {
        const { claimed } = await engine.violations.usage('stock', `sku${i}`)
        assert.ok(claimed <= 3)
        assert.equal(claimed, held.get(`sku${i}`) ?? 0, 'what is granted is what is held')
      }
      if (mode === 'strict' || partitions === 1) assert.ok(placed >= 3, `${placed} were placed`)
      const violations = await engine.violations.list({ limit: 1_000 })
      assert.equal(violations.filter(({ state }) => state !== 'resolved').length, 0)
      const told = violations.flatMap(({ victims }) => victims.filter(({ state }) => state === 'compensated'))
      assert.equal(told.length, mode === 'strict' ? 0 : 60 - placed)
      // A retry gets the first outcome, also when it had to wait for its claims.
      const again = await engine.submit(
        'place',
        { order: 'o7', skus: skusOf(7) },
        { requestId: 'r7', principal: 'p7' },
      )
      assert.deepEqual({ ...again, replayed: false }, replies[7])
      assert.deepEqual(reports, [])
      await engine.close()
    })
  }
}

test('resolved violations are deleted after the window, open ones are not', async () => {
  let now = 1_790_000_000_000
  const day = 86_400_000
  const clock = { now: () => now, alarm: () => () => {} }
  const shop = await shopWith({ mode: 'loose', limit: 1, review: 'human', deadlineMs: 100 * day })
  const engine = await createEngine({
    app: shop,
    data: memoryStorage({ clock }),
    clock,
    windowMs: day,
    checkpointRows: 5,
    report: () => {},
  })
  for (const [i, sku] of ['a', 'a', 'b', 'b'].entries()) {
    await engine.submit('place', { order: `o${i}`, skus: [sku] }, { requestId: `r${i}` })
  }
  const { id, key } = (await engine.violations.list())[0]!
  await engine.violations.resolve(
    { violation: id, key, action: 'waive', reason: 'so be it' },
    { requestId: 'op' },
  )
  assert.equal((await engine.violations.list()).length, 2)
  now += 3 * day
  for (let i = 10; i < 30; i++) {
    await engine.submit('place', { order: `o${i}`, skus: [`sku${i}`] }, { requestId: `r${i}` })
  }
  assert.deepEqual(
    (await engine.violations.list()).map(({ state }) => state),
    ['open'],
  )
  await engine.close()
})

test('a violation under review waits for an operator, who decides by a request', async () => {
  let now = 1_790_000_000_000
  const clock = { now: () => now, alarm: () => () => {} }
  const data = memoryStorage({ clock })
  const shop = await shopWith({ mode: 'loose', limit: 1, review: 'human', deadlineMs: 60_000 })
  const engine = await createEngine({ app: shop, data, clock, report: () => {} })
  let count = 0
  const place = (sku: string) =>
    engine.submit('place', { order: `o${++count}`, skus: [sku] }, { requestId: `r${count}` })
  const open = () => engine.violations.list({ state: 'open' })
  const decide = async (action: 'compensate' | 'waive' | 'raise-limit' | 'choose', more: object = {}) => {
    const { id, key } = (await open())[0]!
    return engine.violations.resolve(
      { violation: id, key, action, reason: 'because', ...more },
      { requestId: `op${++count}`, principal: 'olga' },
    )
  }

  for (const sku of ['a', 'a', 'b', 'b', 'c', 'c', 'd', 'd', 'e', 'e']) await place(sku)
  assert.deepEqual((await open()).map(({ key, excess, deadline }) => [key, excess, deadline]).sort(), [
    ['a', 1, now + 60_000],
    ['b', 1, now + 60_000],
    ['c', 1, now + 60_000],
    ['d', 1, now + 60_000],
    ['e', 1, now + 60_000],
  ])
  await place('a')
  assert.equal((await engine.violations.list({ state: 'open' })).find(({ key }) => key === 'a')!.excess, 2)

  const keys: string[] = []
  for (const [action, more] of [
    ['compensate', {}],
    ['waive', {}],
    ['raise-limit', {}],
  ] as const) {
    keys.push((await open())[0]!.key)
    assert.equal((await decide(action, more)).status, 'accepted')
  }
  await engine.idle()
  const [compensated, waived, raised] = keys as [string, string, string]
  const of = async (key: string) => (await engine.violations.list()).find((each) => each.key === key)!
  assert.ok((await of(compensated)).victims.length > 0)
  assert.deepEqual((await of(waived)).victims, [])
  assert.deepEqual((await of(raised)).victims, [])
  assert.ok(
    (await engine.violations.usage('stock', waived)).claimed >
      (await engine.violations.usage('stock', waived)).limit,
  )
  assert.equal(
    (await engine.violations.usage('stock', raised)).claimed,
    (await engine.violations.usage('stock', raised)).limit,
  )
  assert.deepEqual((await of(waived)).history[1], {
    at: now,
    what: 'waive',
    units: (await of(waived)).history[1]!.units,
    by: { requestId: 'op13', principal: 'olga' },
    reason: 'because',
  })

  // Another victim than the policy's: the first claim.
  const { key, id } = (await open())[0]!
  const first = (await engine.scan('orders')).map((row) => row.key[0])
  assert.ok(first.length > 0)
  const index = ['a', 'b', 'c', 'd', 'e'].indexOf(key)
  const chosen = `r${index * 2 + 1}`
  const wrong = await engine.violations.resolve(
    { violation: id, key, action: 'choose', victims: [{ requestId: 'nobody' }], reason: 'x' },
    { requestId: 'op-wrong' },
  )
  assert.deepEqual(
    [wrong.status, wrong.status === 'rejected' && wrong.reason],
    ['rejected', 'victim-unknown'],
  )
  await decide('choose', { victims: [{ requestId: chosen }] })
  await engine.idle()
  assert.deepEqual(
    (await of(key)).victims.map(({ requestId }) => requestId),
    [chosen],
  )
  const late = await engine.violations.resolve(
    { violation: id, key, action: 'waive', reason: 'x' },
    { requestId: 'op-late' },
  )
  assert.deepEqual(
    [late.status, late.status === 'rejected' && late.reason],
    ['rejected', 'violation-not-open'],
  )

  // No operator decides the last violation in time.
  const last = (await open())[0]!.key
  now += 60_000
  await place('f')
  await engine.idle()
  assert.deepEqual(await open(), [])
  assert.deepEqual(
    (await of(last)).history.map(({ what }) => what),
    ['noticed', 'deadline-passed', 'victims-chosen', 'resolved'],
  )
  await assert.rejects(
    engine.violations.resolve(
      { violation: id, key, action: 'waive', reason: '' },
      { requestId: 'op-no-reason' },
    ),
    { code: 'input-invalid' },
  )
  const digest = await engine.digest()
  await engine.close()
  const again = await createEngine({ app: shop, data, clock, report: () => {} })
  assert.equal(await again.digest(), digest)
  assert.equal((await again.violations.list()).length, 5)
  await again.close()
})

test('the history of an undecided violation does not grow with every claim', async () => {
  const s = scenario(await shopWith({ mode: 'loose', limit: 1, review: 'human' }))
  for (let i = 0; i < 50; i++) s.given('place', { order: `o${i}`, skus: ['mug'] })
  const [violation] = s.violations()
  assert.equal(violation!.excess, 49)
  assert.deepEqual(
    violation!.history.map(({ what, units }) => [what, units]),
    [
      ['noticed', 1],
      ['grew', 49],
    ],
  )
})

test('an operator cannot raise the limit of a unique constraint', async () => {
  const names = await apps.names()
  const engine = await createEngine({ app: names, data: memoryStorage(), report: () => {} })
  for (const account of ['a', 'b'])
    await engine.submit('register', { account, name: 'ann' }, { requestId: account })
  const [open] = await engine.violations.list()
  const decide = (action: 'raise-limit' | 'compensate', requestId: string) =>
    engine.violations.resolve({ violation: open!.id, key: 'ann', action, reason: 'twins' }, { requestId })
  const reply = await decide('raise-limit', 'op1')
  assert.deepEqual([reply.status, reply.status === 'rejected' && reply.reason], ['rejected', 'limit-fixed'])
  assert.equal((await decide('compensate', 'op2')).status, 'accepted')
  assert.deepEqual(await engine.violations.usage('taken', 'ann'), { limit: 1, claimed: 1, excess: 0 })
  await engine.close()
})

test('claims that no judge could store are refused at the request', async () => {
  const [product] = scopes('product')
  const stock = product.capacity('stock')
  for (const priority of [Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => stock.claim('mug', 1, { priority }), { code: 'claim-invalid' })
  }
  assert.throws(() => stock.claim(5 as never), { code: 'claim-invalid' })
  for (const mode of ['strict', 'loose'] as const) {
    for (const [length, fits] of [
      [1_200, true],
      [1_700, false],
      [1_890, false],
    ] as const) {
      const s = scenario(await shopWith({ mode, limit: 1 }))
        .given('place', { order: 'o1', skus: [] }, { principal: 'p'.repeat(255) })
        .when('place', { order: 'o2', skus: ['x'.repeat(length)] }, { principal: 'p'.repeat(255) })
      if (fits) s.thenAccepted().thenClaimed('stock', 'x'.repeat(length), 1)
      else s.thenFailed('key-too-long')
    }
  }
})

test('a request may have any number of claims, since they are not a chain of events', async () => {
  const skus = Array.from({ length: 1_200 }, (_, i) => `sku${i}`)
  scenario(await shopWith({ mode: 'strict', limit: 1 }))
    .when('place', { order: 'o1', skus })
    .thenAccepted()
    .thenClaimed('stock', 'sku1199', 1)
    .when('place', { order: 'o2', skus: ['sku1200', ...skus] })
    .thenRejected('stock')
    .thenClaimed('stock', 'sku1200', 0)
})

test('a victim is compensated also at the end of the longest chain', async () => {
  const shop = await apps.chain()
  for (const hops of [998, 999, 1_000]) {
    const s = scenario(shop)
      .given('place', { order: 'o1', sku: 'mug' })
      .when('shrink', { sku: 'mug', hops })
      .thenRow('orders', ['o1'], { sorry: true })
      .thenClaimed('stock', 'mug', 0)
    assert.equal(s.violations()[0]!.state, 'resolved')
  }
})

test('thousands of victims at once take seconds, with traces of a bounded size', async () => {
  const count = 3_000
  const engine = await createEngine({
    app: await shopWith({ mode: 'strict', limit: count }),
    data: memoryStorage(),
    report: () => {},
  })
  await Promise.all(
    Array.from({ length: count }, (_, i) =>
      engine.submit('place', { order: `o${i}`, skus: ['mug'] }, { requestId: `r${i}` }),
    ),
  )
  const reply = await engine.submit('restock', { sku: 'mug', by: -count }, { requestId: 'forklift' })
  assert.equal(reply.status, 'accepted')
  await engine.idle()
  const [violation] = await engine.violations.list()
  assert.equal(violation!.state, 'resolved')
  assert.deepEqual(violation!.counts, { told: 0, compensated: count, released: 0, failed: 0, queued: 0 })
  const story = (await engine.story('forklift'))!
  assert.ok(JSON.stringify(story).length < 10_000_000)
  await engine.close()
})
