import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type * as made from '../../test/apps/accounts.ts'
import { appsOf } from '../../test/apps.ts'
import { createEngine, type Engine, type EngineOptions, HenceError, type Reply } from '../index.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/accounts.ts'))
const bank = await apps.bank()

type Bank = typeof made.bank

async function open(options: Partial<EngineOptions<Bank>> = {}): Promise<Engine<Bank>> {
  return createEngine({ app: bank, data: memoryStorage(), report: () => {}, ...options })
}

function uuid7(time: number): string {
  const hex = time.toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7${randomUUID().slice(15)}`
}

async function refused(act: Promise<unknown>, code: string, advice: string, message?: RegExp): Promise<void> {
  await assert.rejects(act, (error) => {
    assert.ok(error instanceof HenceError, String(error))
    assert.equal(error.code, code)
    assert.equal(error.advice, advice)
    if (message) assert.match(error.message, message)
    return true
  })
}

for (const partitions of [1, 4]) {
  test(`a request is decided, its events arrive, and reads see both (${partitions} partitions)`, async () => {
    const engine = await open({ data: memoryStorage({ partitions }) })
    const first = await engine.submit(
      'deposit',
      { account: 'ann', cents: 500 },
      { requestId: 'd1', principal: 'teller' },
    )
    assert.equal(first.status, 'accepted')
    assert.ok(first.status === 'accepted')
    assert.equal(first.value.cents, 500)
    assert.equal(first.value.by, 'teller')
    assert.equal(first.replayed, false)
    assert.equal(first.requestId, 'd1')
    const second = await engine.submit('pay', { from: 'ann', to: 'bob', cents: 200 }, { requestId: 'p1' })
    assert.deepEqual(await engine.get('accounts', ['bob'], { after: second.token }), { cents: 200 })
    assert.deepEqual(await engine.scan('accounts', { index: 'byCents', from: [250] }), [
      { key: ['ann'], value: { cents: 300 } },
    ])
    assert.equal(await engine.get('accounts', ['nobody']), undefined)
    await engine.close()
  })
}

test('a rejection and a failure undo what was put and emitted before them', async () => {
  const reports: string[] = []
  const engine = await open({ report: ({ code, message }) => reports.push(`${code}: ${message}`) })
  const rejected = await engine.submit('pay', { from: 'ann', to: 'bob', cents: 1 }, { requestId: 'p1' })
  assert.deepEqual(
    { ...rejected, token: '' },
    {
      status: 'rejected',
      reason: 'not-enough',
      details: { cents: 0 },
      requestId: 'p1',
      token: '',
      replayed: false,
    },
  )
  const failed = await engine.submit('explode', { account: 'ann' }, { requestId: 'e1' })
  assert.ok(failed.status === 'failed')
  assert.equal(failed.code, 'derivation-threw')
  assert.equal(failed.message, 'TypeError: boom')
  assert.deepEqual(await engine.scan('accounts'), [])
  assert.match(reports.join(), /derivation-failed: .*boom/)
  const again = await engine.submit('explode', { account: 'ann' }, { requestId: 'e1' })
  assert.deepEqual(again, { ...failed, replayed: true })
  await engine.close()
})

for (const partitions of [1, 4]) {
  test(`a reaction that throws undoes itself alone (${partitions} partitions)`, async () => {
    const reports: string[] = []
    const engine = await open({
      data: memoryStorage({ partitions }),
      report: ({ message }) => reports.push(message),
    })
    await engine.submit('deposit', { account: 'ann' }, { requestId: 'd1' })
    for (const [i, to] of ['bob', 'broken-1', 'broken-2', 'carl'].entries()) {
      const reply = await engine.submit('pay', { from: 'ann', to, cents: 10 }, { requestId: `p${i}` })
      assert.equal(reply.status, 'accepted')
    }
    await engine.idle()
    assert.deepEqual(
      (await engine.scan('accounts')).map(({ key, value }) => [key[0], value.cents]),
      [
        ['ann', 60],
        ['bob', 10],
        ['carl', 10],
      ],
    )
    assert.equal(reports.filter((message) => /no such bank/.test(message)).length, 2)
    await engine.close()
  })
}

test('a retry gets the first outcome, in flight and afterwards, also from another process', async () => {
  const data = memoryStorage()
  const engine = await open({ data })
  const send = (to: Engine<Bank>) => to.submit('deposit', { account: 'ann', cents: 5 }, { requestId: 'd1' })
  const [first, second] = await Promise.all([send(engine), send(engine)])
  assert.equal(first.replayed, false)
  assert.deepEqual(second, { ...first, replayed: true })
  assert.deepEqual(await send(engine), second)
  await engine.close()
  const next = await open({ data })
  assert.deepEqual(await send(next), second)
  assert.deepEqual(await next.get('accounts', ['ann']), { cents: 5 })
  await next.close()
})

test('a thousand concurrent retries are one request', async () => {
  const engine = await open()
  const replies = await Promise.all(
    Array.from({ length: 1000 }, () =>
      engine.submit('deposit', { account: 'ann', cents: 5 }, { requestId: 'd1' }),
    ),
  )
  assert.equal(replies.filter(({ replayed }) => !replayed).length, 1)
  for (const reply of replies)
    assert.deepEqual({ ...reply, replayed: true }, { ...replies[0], replayed: true })
  assert.deepEqual(await engine.get('accounts', ['ann']), { cents: 5 })
  assert.deepEqual(engine.stats().applied, [2])
  await engine.close()
})

test('an id with other content is refused, in flight and afterwards; the same content in another form is not', async () => {
  const engine = await open({ data: memoryStorage({ partitions: 8 }) })
  const options = { requestId: 'p1' }
  await engine.submit('deposit', { account: 'ann' }, { requestId: 'd1' })
  const first = engine.submit('pay', { from: 'ann', to: 'bob', cents: 5 }, options)
  const other = engine.submit('pay', { from: 'carl', to: 'bob', cents: 5 }, options)
  const type = engine.submit('deposit', { account: 'ann' }, options)
  await refused(other, 'request-id-reused', 'change', /p1 was sent before with other content, as "pay"/)
  await refused(type, 'request-id-reused', 'change')
  await first
  await refused(
    engine.submit('pay', { from: 'carl', to: 'bob', cents: 5 }, options),
    'request-id-reused',
    'change',
  )
  const reordered = await engine.submit('pay', { cents: 5, to: 'bob', from: 'ann' }, options)
  assert.equal(reordered.replayed, true)
  await engine.close()
})

test('identity compares what was sent, not what the schema made of it', async () => {
  const engine = await open()
  const first = await engine.submit('deposit', { account: 'ann' }, { requestId: 'd1' })
  assert.ok(first.status === 'accepted' && first.value.cents === 100, 'the default was taken')
  await refused(
    engine.submit('deposit', { account: 'ann', cents: 100 }, { requestId: 'd1' }),
    'request-id-reused',
    'change',
  )
  assert.equal((await engine.submit('deposit', { account: 'ann' }, { requestId: 'd1' })).replayed, true)
  await engine.close()
})

test('ids of different principals are different ids', async () => {
  const engine = await open()
  for (const principal of ['ann', 'bob', undefined]) {
    const reply = await engine.submit(
      'deposit',
      { account: 'shared', cents: 1 },
      principal === undefined ? { requestId: 'd1' } : { requestId: 'd1', principal },
    )
    assert.equal(reply.replayed, false)
  }
  assert.deepEqual(await engine.get('accounts', ['shared']), { cents: 3 })
  await engine.close()
})

test('a UUID is the same id in either case', async () => {
  const engine = await open()
  const id = uuid7(Date.now())
  await engine.submit('deposit', { account: 'ann' }, { requestId: id.toUpperCase() })
  assert.equal((await engine.submit('deposit', { account: 'ann' }, { requestId: id })).replayed, true)
  await engine.close()
})

test('an id is accepted only within its window, and its outcome is kept as long', async () => {
  let now = Date.UTC(2026, 0, 1)
  const day = 24 * 60 * 60 * 1000
  const clock = { now: () => now }
  const data = memoryStorage({ clock })
  const engine = await open({ data, clock, checkpointRows: 1 })
  const send = (id: string) => engine.submit('deposit', { account: 'ann', cents: 1 }, { requestId: id })
  const first = uuid7(now)
  await send(first)
  await send('an id without time')
    .then(() => assert.fail('blanks are not visible'))
    .catch((error) => assert.equal(error.code, 'request-id-invalid'))
  await send('timeless')
  await refused(send(uuid7(now + 5 * 60_000 + 1)), 'request-id-from-the-future', 'change', /clock/)
  await send(uuid7(now + 5 * 60_000))
  await refused(send(uuid7(now - 30 * day - 1)), 'request-id-expired', 'change')
  await send(uuid7(now - 30 * day))
  now += 30 * day
  assert.equal((await send(first)).replayed, true)
  now += 1
  await refused(send(first), 'request-id-expired', 'change', /unknown whether it was decided/)
  now += day
  await send('later')
  await engine.idle()
  assert.equal((await send('timeless')).replayed, true, 'ids without a time are kept for ever')
  now -= 40 * day
  await refused(send(first), 'request-id-expired', 'change')
  await engine.close()
})

test('invalid requests are refused before anything is written', async () => {
  const engine = await open()
  const bad = (type: string, input: unknown, requestId: unknown = 'r1', principal?: unknown) =>
    engine.submit(type as 'pay', input as never, { requestId, principal } as never)
  const good = { account: 'ann', cents: 1 }
  await refused(
    bad('deposits', good),
    'unknown-request',
    'change',
    /no request "deposits"; it has deposit, pay/,
  )
  await refused(bad(undefined as never, good), 'unknown-request', 'change')
  assert.throws(() => engine.subscribe(undefined as never), { code: 'option-invalid' })
  await refused(bad('deposit', { account: 'ann', cents: 'x' }), 'input-invalid', 'change', /cents: /)
  await refused(bad('deposit', undefined), 'input-not-json', 'change')
  await refused(
    bad('deposit', { account: 'ann', cents: Number.NaN }),
    'input-not-json',
    'change',
    /at cents is NaN/,
  )
  await refused(bad('deposit', { account: 'ann', cents: 1, at: new Date() }), 'input-not-json', 'change')
  await refused(
    bad('deposit', { account: 'ann', cents: 1, memo: 'x'.repeat(2 ** 20) }),
    'value-too-large',
    'change',
  )
  await refused(bad('deposit', good, ''), 'request-id-invalid', 'change')
  await refused(bad('deposit', good, 'x'.repeat(256)), 'request-id-invalid', 'change')
  await refused(bad('deposit', good, 'ä'), 'request-id-invalid', 'change')
  await refused(bad('deposit', good, 7), 'request-id-invalid', 'change')
  await refused(bad('deposit', good, 'r1', 'a\nb'), 'principal-invalid', 'change')
  await refused(bad('deposit', good, 'r1', 'x'.repeat(256)), 'principal-invalid', 'change')
  await refused(bad('deposit', { account: 'a'.repeat(2000), cents: 1 }), 'key-too-long', 'change')
  assert.deepEqual(engine.stats().applied, [1])
  assert.equal((await bad('deposit', good, 'x'.repeat(255), 'ä'.repeat(127))).status, 'accepted')
  await engine.close()
})

test('overload is refused before anything is written, and accepted when there is room', async () => {
  const engine = await open({ queueBytesMax: 2_000 })
  const settled = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) =>
      engine.submit('deposit', { account: 'ann', cents: 1 }, { requestId: `d${i}` }),
    ),
  )
  const taken = settled.filter(({ status }) => status === 'fulfilled').length
  assert.ok(taken > 10 && taken < 100, `${taken} were taken`)
  for (const each of settled) if (each.status === 'rejected') assert.equal(each.reason.code, 'overloaded')
  assert.deepEqual(await engine.get('accounts', ['ann']), { cents: taken })
  for (let i = 0; i < 100; i++)
    await engine.submit('deposit', { account: 'ann', cents: 1 }, { requestId: `d${i}` })
  assert.deepEqual(await engine.get('accounts', ['ann']), { cents: 100 })
  await engine.close()
})

test('closing finishes accepted requests and refuses new ones', async () => {
  const data = memoryStorage({ partitions: 4 })
  const engine = await open({ data })
  await engine.submit('deposit', { account: 'ann' }, { requestId: 'd1' })
  const underWay = engine.submit('pay', { from: 'ann', to: 'bob', cents: 7 }, { requestId: 'p1' })
  const closing = engine.close()
  await refused(engine.submit('deposit', { account: 'ann' }, { requestId: 'd2' }), 'engine-closed', 'retry')
  assert.equal((await underWay).status, 'accepted')
  await closing
  await engine.close()
  const next = await open({ data })
  assert.equal(next.stats().replayed, 0, 'all was saved')
  assert.deepEqual(await next.get('accounts', ['bob']), { cents: 7 })
  await next.close()
})

test('a token waits for its request and all events that follow; one of another log is refused', async () => {
  const engine = await open({ data: memoryStorage({ partitions: 4 }) })
  await engine.submit('deposit', { account: 'ann', cents: 1000 }, { requestId: 'd1' })
  for (let i = 0; i < 50; i++) {
    const { token } = await engine.submit(
      'pay',
      { from: 'ann', to: `to-${i}`, cents: 1 },
      { requestId: `p${i}` },
    )
    assert.deepEqual(await engine.get('accounts', [`to-${i}`], { after: token }), { cents: 1 })
  }
  for (const token of ['0:999', '9:0', 'x', '', '0:-1']) {
    await refused(engine.get('accounts', ['ann'], { after: token }), 'token-unknown', 'change')
  }
  await refused(engine.get('accounts', [1] as never), 'key-invalid', 'change')
  await refused(
    engine.get('account' as never, ['ann'] as never),
    'unknown-table',
    'change',
    /it has accounts, entries/,
  )
  await refused(engine.scan('accounts', { index: 'byName' as never }), 'query-invalid', 'change')
  await engine.close()
})

test('calls that only plain JavaScript can make are refused with a code, and say what is wrong', async () => {
  const create = (options?: unknown) => createEngine(options as never)
  const data = memoryStorage()
  for (const [options, message] of [
    [undefined, /`app` must be the path/],
    [{ data }, /`app` must be the path/],
    [{ app: { default: bank }, data }, /`app` must be the path/],
    [{ app: bank }, /`data` must be the path/],
    [{ app: bank, data: 7 }, /`data` must be the path/],
    [{ app: bank, data, onCodeChange: 'go on' }, /`onCodeChange` must be one of refuse, continue, reprocess/],
    [{ app: bank, data, partitions: '2' }, /`partitions` must be a whole number from 1 to 1024, not 2/],
  ] as const) {
    await refused(create(options), 'option-invalid', 'change', message)
  }
  // Nothing was opened by these: the storage can still be used.
  const engine = await open({ data })
  const call = engine as unknown as Record<
    'submit' | 'enqueue' | 'get' | 'scan',
    (...args: unknown[]) => Promise<unknown>
  >
  const input = { account: 'ann' }
  await refused(call.submit('deposit', input), 'request-id-invalid', 'change', /missing/)
  await refused(call.enqueue('deposit', input, {}), 'request-id-invalid', 'change', /missing/)
  await refused(call.get('accounts', 'ann'), 'key-invalid', 'change', /the list \[string\], not by "ann"/)
  await refused(call.get('accounts', 'a'), 'key-invalid', 'change')
  await refused(call.get('accounts'), 'key-invalid', 'change', /not by undefined/)
  await refused(call.get('accounts', ['ann'], { after: 5 }), 'token-unknown', 'change')
  await refused(call.scan('accounts', 'ann'), 'query-invalid', 'change', /is an object/)
  assert.deepEqual(engine.stats().applied, [1])
  await engine.close()
})

test('subscribers get every change once, in order, with the row before', async () => {
  const engine = await open()
  const received: unknown[] = []
  const stop = engine.subscribe((changes) =>
    received.push(...changes.filter(({ table }) => table === 'accounts')),
  )
  await engine.submit('deposit', { account: 'ann', cents: 10 }, { requestId: 'd1' })
  await engine.submit('pay', { from: 'ann', to: 'bob', cents: 4 }, { requestId: 'p1' })
  await engine.submit('pay', { from: 'ann', to: 'bob', cents: 400 }, { requestId: 'p2' })
  stop()
  await engine.submit('deposit', { account: 'ann', cents: 10 }, { requestId: 'd2' })
  const change = (key: string, before: number | undefined, after: number, token: string) => ({
    table: 'accounts',
    key: [key],
    before: before === undefined ? undefined : { cents: before },
    after: { cents: after },
    token,
  })
  assert.deepEqual(received, [
    change('ann', undefined, 10, '0:1'),
    change('ann', 10, 6, '0:2'),
    change('bob', undefined, 4, '0:2'),
  ])
  await engine.close()
})

test('changed code does not continue with the state of other code unless onCodeChange says so', async () => {
  const data = memoryStorage()
  const engine = await open({ data })
  await engine.submit('deposit', { account: 'ann', cents: 5 }, { requestId: 'd1' })
  await engine.close()
  const doubled = await apps.doubled()
  await refused(createEngine({ app: doubled, data }), 'code-changed', 'change', /--on-code-change continue/)
  const next = await createEngine({ app: doubled, data, onCodeChange: 'reprocess' })
  assert.deepEqual(await next.get('accounts', ['ann']), { cents: 10 })
  await next.close()
})

for (const [what, code] of [
  ['a variable of the module', 'divergence'],
  ['a row that does not fit its schema', 'row-invalid'],
  ['a promise', 'derivation-asynchronous'],
  ['the clock', 'impure'],
] as const) {
  test(`dev mode shows ${what}`, async () => {
    const cheating = await apps.cheating(what)
    const engine = await createEngine({ app: cheating, data: memoryStorage(), check: true, report: () => {} })
    const reply = await engine.submit('cheat', { account: 'ann' }, { requestId: 'c1' })
    assert.ok((reply as { status: string }).status === 'failed', JSON.stringify(reply))
    assert.equal((reply as unknown as { code: string }).code, code, JSON.stringify(reply))
    assert.deepEqual(await engine.scan('accounts'), [])
    await engine.close()
  })
}

test('an app can ask for the check of its rows in production, and every replay checks them too', async () => {
  const row = 'a row that does not fit its schema'
  for (const [checksSchemas, status] of [
    [false, 'accepted'],
    [true, 'failed'],
  ] as const) {
    const options = { app: await apps.cheating(row, checksSchemas), report: () => {} }
    const data = memoryStorage()
    const engine = await createEngine({ ...options, data })
    const reply: Reply = await engine.submit('cheat', { account: 'ann' }, { requestId: 'c1' })
    assert.equal(reply.status, status)
    assert.equal(
      reply.status === 'failed' ? reply.code : undefined,
      checksSchemas ? 'row-invalid' : undefined,
    )
    const digest = await engine.digest()
    await engine.close()
    const again = await createEngine({ ...options, data: { ...memoryStorage(), log: data.log } })
    assert.equal(await again.digest(), digest)
    await again.close()
  }
})

test('options out of range are refused', async () => {
  for (const bad of [
    { partitions: 0 },
    { partitions: 1.5 },
    { windowMs: 1 },
    { queueBytesMax: -1 },
    { checkpointRows: 0 },
  ]) {
    await refused(open(bad), 'option-invalid', 'change')
  }
})

for (const partitions of [1, 4]) {
  test(`the story of a request has its changes, events and outcome (${partitions} partitions)`, async () => {
    const clock = { now: () => 1_790_000_000_000 }
    const data = memoryStorage({ partitions, clock })
    let engine = await open({ data, clock })
    await engine.submit('deposit', { account: 'ann', cents: 500 }, { requestId: 'd1' })
    const reply = await engine.submit(
      'pay',
      { from: 'ann', to: 'bob', cents: 200 },
      { requestId: 'p1', principal: 'ann' },
    )
    await engine.idle()
    const look = async () => {
      const story = await engine.story('p1', { principal: 'ann' })
      assert.ok(story)
      const { steps, ...head } = story
      assert.deepEqual(head, {
        requestId: 'p1',
        principal: 'ann',
        type: 'pay',
        input: { from: 'ann', to: 'bob', cents: 200 },
        token: reply.token,
        at: 1_790_000_000_000,
        outcome: { status: 'accepted', value: { cents: 300 } },
        replies: [],
      })
      assert.deepEqual(
        steps.flatMap(({ changes }) => changes),
        [
          { table: 'accounts', key: ['ann'], before: { cents: 500 }, after: { cents: 300 } },
          { table: 'accounts', key: ['bob'], before: undefined, after: { cents: 200 } },
        ],
      )
      assert.deepEqual(
        steps.flatMap(({ events }) => events),
        [{ type: 'paid', key: 'bob', data: { to: 'bob', cents: 200 } }],
      )
      assert.deepEqual(
        steps.map(({ kind, type, key }) => [kind, type, key]),
        [
          ['request', 'pay', 'ann'],
          ['event', 'paid', 'bob'],
        ],
      )
    }
    await look()
    await engine.close()
    engine = await open({ data, clock })
    await look()
    assert.equal(await engine.story('p1'), undefined, 'another principal has another request p1')
    await engine.close()
  })

  test(`a reader of changes resumes where it was, also after a restart (${partitions} partitions)`, async () => {
    const data = memoryStorage({ partitions })
    let engine = await open({ data })
    const begin = engine.position()
    for (let i = 0; i < 600; i++) {
      await engine.submit('deposit', { account: `a${i % 7}`, cents: 1 }, { requestId: `d${i}` })
    }
    await engine.submit('pay', { from: 'a0', to: 'a1', cents: 1_000 }, { requestId: 'rejected' })
    const balances = new Map<unknown, unknown>()
    let position = begin
    const read = async (records: number) => {
      let left = records
      for await (const step of engine.changes({ from: position })) {
        for (const { table, key, before, after } of step.changes) {
          if (table !== 'accounts') continue
          assert.deepEqual(before, balances.get(key[0]), 'each change once, in order')
          balances.set(key[0], after)
        }
        position = step.position
        if (--left === 0) return
      }
      assert.equal(left, 0, 'the engine closed before')
    }
    await read(250)
    await engine.close()
    engine = await open({ data })
    await read(350)
    const more = read(1)
    await engine.submit('deposit', { account: 'a0', cents: 7 }, { requestId: 'late' })
    await more
    assert.deepEqual(
      await engine.scan('accounts'),
      [...balances].map(([key, value]) => ({ key: [key], value })).sort((a, b) => (a.key < b.key ? -1 : 1)),
    )
    assert.equal(position, engine.position())
    const ended = (async () => {
      for await (const _ of engine.changes()) assert.fail('nothing changed')
    })()
    await engine.close()
    await ended
  })
}

test('positions whose changes are no longer kept, or never were, are refused', async () => {
  let now = 1_790_000_000_000
  const clock = { now: () => now }
  const day = 86_400_000
  const engine = await open({ data: memoryStorage({ clock }), clock, windowMs: day, checkpointRows: 10 })
  const first = async (from: string) => {
    for await (const { position } of engine.changes({ from })) return position
    return undefined
  }
  for (let i = 0; i < 20; i++) {
    await engine.submit('deposit', { account: 'ann', cents: 1 }, { requestId: uuid7(now) })
  }
  const kept = engine.position()
  now += 3 * day
  for (let i = 0; i < 40; i++) {
    await engine.submit('deposit', { account: 'bob', cents: 1 }, { requestId: uuid7(now) })
  }
  assert.equal(await first(kept), '22')
  await refused(first('0'), 'position-unknown', 'change')
  await refused(first('99'), 'position-unknown', 'change')
  await refused(first('0.0'), 'position-unknown', 'change')
  await refused(first('x'), 'position-unknown', 'change')
  await engine.close()
})

test('an enqueued request is durable, and its outcome can be read later', async () => {
  const engine = await open()
  const input = { account: 'ann', cents: 5 }
  const enqueued = await engine.enqueue('deposit', input, { requestId: 'd1' })
  assert.deepEqual(enqueued, { requestId: 'd1', token: '0:1' })
  assert.deepEqual(await engine.enqueue('deposit', input, { requestId: 'd1' }), enqueued)
  await refused(
    engine.enqueue('deposit', { account: 'bob', cents: 5 }, { requestId: 'd1' }),
    'request-id-reused',
    'change',
  )
  const reply = await engine.submit('deposit', input, { requestId: 'd1' })
  assert.ok(reply.status === 'accepted' && reply.replayed)
  await engine.close()
})

test('a file that fails at the end gives no bare errno, and does not hide why a start failed', async () => {
  const failing = (log = {}) => {
    const data = memoryStorage()
    const error = Object.assign(new Error('EIO'), { code: 'EIO', syscall: 'fstat', path: '/data/log/x' })
    return { ...data, log: Object.assign(data.log, log), close: () => Promise.reject(error) }
  }
  const engine = await open({ data: failing() })
  await refused(engine.close(), 'file-unusable', 'operator', /\/data\/log\/x cannot be used/)
  const noEnd = {
    end: () => Promise.reject(new HenceError('log-read-failed', 'retry', 'The log cannot be read.')),
  }
  await refused(open({ data: failing(noEnd) }), 'log-read-failed', 'retry')
})
