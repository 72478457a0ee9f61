import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type * as made from '../../test/apps/upcasting.ts'
import { appsOf } from '../../test/apps.ts'
import { HenceError } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { identityOf } from '../identity.ts'
import { decodeRecord, type EventRecord, encodeEvent, encodeRequest, type LogRecord } from '../log/record.ts'
import { bundleApp } from '../sandbox/bundle.ts'
import { type Program, sandboxed } from '../sandbox/program.ts'
import { mainRealm } from '../sandbox/realm.ts'
import { encodeKey } from '../state/keys.ts'
import { memoryStore } from '../state/memory-store.ts'
import { State } from '../state/state.ts'
import { TableState } from '../state/table.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { derivationContext, recordContext, systemTables } from './context.ts'
import { Deriver } from './step.ts'
import type { StepResult } from './step-result.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/upcasting.ts'))
const bank = await apps.bank()

// A message stays in the log as it was written, for years, while the code changes. The worst failure would be
// to misread a message; the next worst, to skip one.

const identity = (id: string) => identityOf(id, '')
const old = (id: string, version: number, input: object, output?: object) =>
  encodeRequest(identity(id), 'deposit', JSON.stringify(input), output && JSON.stringify(output), version)

test('requests of all versions are derived as the newest, and stories show them as they were sent', async () => {
  const data = memoryStorage()
  await data.log.append(0, [
    old('1', 1, { account: 'ann', euros: '1.50' }),
    old('2', 2, { account: 'ann' }, { account: 'ann', cents: 250 }),
    old('3', 3, { account: 'ann', cents: 100, currency: 'EUR' }),
    old('4', 3, { account: 'ann', cents: 100, currency: 'CHF' }),
  ])
  const engine = await createEngine({ app: bank, data, report: () => {} })
  assert.deepEqual(await engine.get('accounts', ['ann']), { cents: 500, currency: 'EUR' })
  const first = await engine.story('1')
  assert.deepEqual(first?.input, { account: 'ann', euros: '1.50' })
  assert.deepEqual(first?.outcome, { status: 'accepted', value: { cents: 150 } })
  assert.equal((await engine.story('4'))?.outcome?.status, 'rejected')

  // A retry is compared with the input that was sent then, although today's schema would refuse it.
  const again = { account: 'ann', euros: '1.50' } as never
  const reply = await engine.submit('deposit', again, { requestId: '1' })
  assert.ok(reply.status === 'accepted' && reply.replayed && reply.value.cents === 150)
  const upcast = { account: 'ann', cents: 150, currency: 'EUR' }
  await assert.rejects(engine.submit('deposit', upcast, { requestId: '1' }), { code: 'request-id-reused' })
  await assert.rejects(engine.submit('deposit', again, { requestId: 'new' }), { code: 'input-invalid' })

  await engine.submit('deposit', upcast, { requestId: 'new' })
  for await (const { offset, records } of data.log.read(0, 4)) {
    const record = decodeRecord(records[0]!)
    assert.ok(offset === 4 && record.kind === 'request')
    assert.equal(record.version, 3)
  }
  await engine.close()
})

test('a message that the code does not know stops the engine, and the error names its record', async () => {
  const known = old('1', 1, { account: 'ann', euros: '1' })
  const unknown = encodeRequest(identity('2'), 'withdraw', '{}', undefined, 1)
  for (const [record, code, message] of [
    [
      old('2', 4, { account: 'ann', cents: 1 }),
      'unknown-version',
      /^Record 0:1 holds a request "deposit" of version 4, and this code knows the versions 1 to 3\. .*start with/,
    ],
    [
      unknown,
      'unknown-message',
      /^Record 0:1 holds a request "withdraw", which the app "bank" does not define/,
    ],
    [
      encodeRequest(identity('2'), 'hence:redrive', '{}', undefined, 2),
      'unknown-version',
      /^Record 0:1 holds a request "hence:redrive" of version 2, and this code knows version 1 alone\. .*Hence/,
    ],
  ] as const) {
    const data = memoryStorage()
    await data.log.append(0, [known, record])
    await assert.rejects(createEngine({ app: bank, data, report: () => {} }), (error) => {
      assert.ok(error instanceof HenceError, String(error))
      assert.equal(error.code, code)
      assert.equal(error.advice, 'operator')
      assert.match(error.message, message)
      return true
    })
  }
})

const broken = {
  throws: 'derivation-threw',
  'reads the clock': 'impure',
  'changes its argument': 'derivation-threw',
  'returns nothing': 'not-json',
  'is asynchronous': 'derivation-asynchronous',
} as const
for (const [what, code] of Object.entries(broken)) {
  test(`an upcaster that ${what} fails its request, and those after it are derived`, async () => {
    const data = memoryStorage()
    await data.log.append(0, [
      encodeRequest(identity('1'), 'fill', '{"n":1}', undefined, 1),
      encodeRequest(identity('2'), 'fill', '{"n":7}', undefined, 2),
    ])
    const alarms: string[] = []
    const engine = await createEngine({
      app: await apps.filling(what as keyof typeof broken),
      data,
      report: ({ message }) => alarms.push(message),
    })
    const outcome = (await engine.story('1'))?.outcome
    assert.ok(outcome?.status === 'failed', JSON.stringify(outcome))
    assert.equal(outcome.code, code)
    assert.deepEqual(await engine.get('boxes', ['box']), { n: 7 })
    assert.equal(alarms.length, 1)
    await engine.close()
  })
}

test('in the sandbox, upcasters get and return values of their own realm', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hence-upcast-'))
  try {
    const path = join(folder, 'app.ts')
    await writeFile(
      path,
      `import { app, scopes } from 'hence'
      const [s] = scopes('s')
      const input = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } }
      export default app('a', { tables: [], requests: [s.request('r', {
        version: 3,
        upcast: {
          1: (older: any) => ({ list: older.list, own: older.list instanceof Array && Object.isFrozen(older.list) }),
          2: (older: any) => ({ ...older, again: older.list instanceof Array && older instanceof Object }),
        },
        input,
        key: () => 'k',
        derive: (_: any, input: any) => ({ ...input, frozen: Object.isFrozen(input) }),
      } as any)] })`,
    )
    const program = sandboxed(await bundleApp(path))
    const step = take(program, newState(program), { offset: 0 }, requestOf('r', 1, { list: [1] }))
    assert.deepEqual(step.decisions[0]!.outcome, {
      status: 'accepted',
      value: { list: [1], own: true, again: true, frozen: true },
    })
  } finally {
    await rm(folder, { recursive: true })
  }
})

// ---------------------------------------------------------------------------------------------------------
// The new app takes over the state of the old one, and has newer versions of everything.

const ann = { order: 'order', name: 'Ann Lee' }

/** State that several programs derive one after the other. */
function newState(program: Program) {
  const state = new State(memoryStore())
  const codec = { encode: JSON.stringify, decode: JSON.parse }
  const shapes = [...program.app.tables.values(), ...systemTables]
  const tables = new Map(shapes.map((shape) => [shape.name, new TableState(state, shape, codec)]))
  return { state, tables }
}

/** Derives one record. With `here`, events for any other key are sent to another partition. */
function take(
  program: Program,
  { state, tables }: ReturnType<typeof newState>,
  { offset, time = 1_000, here }: { offset: number; time?: number; here?: string },
  record: LogRecord,
  failures: readonly string[] = [],
): StepResult {
  const context = recordContext(state, 'test', (key) => here === undefined || key === here)
  context.offset = offset
  context.time = time
  const deriver = new Deriver(derivationContext(program, tables, true), context)
  const step = deriver.derive(record)
  state.commit()
  assert.deepEqual(
    step.derivations.flatMap(({ failure }) => failure?.code ?? []),
    failures,
  )
  return step
}

function requestOf(type: string, version: number, input: object): LogRecord {
  return {
    kind: 'request',
    identity: identity(type),
    type,
    version,
    input: JSON.stringify(input),
    output: undefined,
  }
}

/** The event that a step sent, encoded and decoded as a record. */
function sentBy(step: StepResult, causeOffset: number): EventRecord {
  const [{ type, version, key, data, origin, chain }] = step.outgoing as [StepResult['outgoing'][number]]
  const event = { kind: 'event', generation: 0, causePartition: 0, causeOffset, channelNumber: 0 } as const
  const more = { depth: origin.depth, id: origin.seed, data: JSON.stringify(data) }
  return decodeRecord(encodeEvent({ ...event, ...chain, ...more, type, version, key })) as EventRecord
}

/** The old app, and the new one that takes over its state. */
async function bothSellers() {
  const [older, newer] = [sandboxed(await apps.seller(1)), sandboxed(await apps.seller(2))]
  const home = newState(older)
  const row = (table: string, key: string) =>
    mainRealm.seal(home.tables.get(table)!.get(encodeKey([key])) ?? null)
  return { older, newer, home, row }
}

test('a timer that old code set goes off as an event of the newest version', async () => {
  const { older, newer, home, row } = await bothSellers()
  take(older, home, { offset: 0 }, requestOf('later', 1, ann))
  take(newer, home, { offset: 1, time: 2_000 }, { kind: 'tick' })
  assert.deepEqual(row('orders', 'order'), { name: ['Ann', 'Lee'], state: 'reminded' })

  // Rows of timers from before there were versions have no version.
  take(older, home, { offset: 2, time: 3_000 }, requestOf('later', 1, { ...ann, name: 'Bo' }))
  const [timer] = home.tables.get('hence.timers')!.scan({}) as [{ key: string[]; value: object }]
  const { version, ...bare } = timer.value as { version: number }
  assert.equal(version, 1)
  home.tables.get('hence.timers')!.put(encodeKey(timer.key), bare)
  take(newer, home, { offset: 3, time: 4_000 }, { kind: 'tick' })
  assert.deepEqual(row('orders', 'order'), { name: ['Bo'], state: 'reminded' })
})

test('a timer that newer code set stops older code, and the error names its request', async () => {
  const { older, newer, home, row } = await bothSellers()
  take(newer, home, { offset: 0 }, requestOf('later', 2, { ...ann, name: ['Ann'] }))
  const tick = { offset: 1, time: 2_000 }
  const message =
    /^A timer that follows from record 0:0 holds an event "remind" of version 2, .* version 1 alone/
  const start = home.state.mark()
  assert.throws(() => take(older, home, tick, { kind: 'tick' }), { code: 'unknown-version', message })
  home.state.undo(start)
  take(newer, home, tick, { kind: 'tick' })
  assert.deepEqual(row('orders', 'order'), { name: ['Ann'], state: 'reminded' })
})

test('an event that old code sent arrives in the newest version', async () => {
  const { older, newer, home, row } = await bothSellers()
  const old = sentBy(take(older, home, { offset: 0, here: 'order' }, requestOf('tell', 1, ann)), 0)
  assert.equal(old.version, 1)
  take(newer, home, { offset: 1 }, old)
  assert.deepEqual(row('heard', 'seat'), { name: ['Ann', 'Lee'] })

  const list = { ...ann, name: ['Ann'] }
  const made = sentBy(take(newer, home, { offset: 2, here: 'order' }, requestOf('tell', 2, list)), 2)
  assert.equal(made.version, 2)
  take(newer, home, { offset: 3 }, made)
  assert.deepEqual(row('heard', 'seat'), { name: ['Ann'] })
  const message = /^Record 0:4 holds an event "told" of version 2, and this code knows version 1 alone/
  assert.throws(() => take(older, home, { offset: 4 }, made), { code: 'unknown-version', message })
  const gone = { ...made, type: 'gone' }
  const unknown = { code: 'unknown-message', message: /^Record 0:5 holds an event "gone", which/ }
  assert.throws(() => take(newer, home, { offset: 5 }, gone), unknown)
  // The step that stopped has left nothing behind.
  assert.deepEqual(row('heard', 'seat'), { name: ['Ann'] })
})

test('a request that asked for its claims under old code is decided under new code', async () => {
  const { older, newer, home, row } = await bothSellers()
  const asking = take(older, home, { offset: 0, here: 'order' }, requestOf('queue', 1, ann))
  assert.deepEqual(
    asking.decisions.map(({ outcome }) => outcome),
    [undefined],
  )
  const judged = take(newer, home, { offset: 1, here: 'seat' }, sentBy(asking, 0))
  const step = take(newer, home, { offset: 2, here: 'order' }, sentBy(judged, 1))
  assert.deepEqual(
    step.decisions.map(({ outcome }) => outcome?.status),
    ['accepted'],
  )
  assert.deepEqual(row('orders', 'order'), { name: ['Ann', 'Lee'], state: 'served' })
})

test('a request of the newest version waits for its claims without an upcast', async () => {
  const { newer, home, row } = await bothSellers()
  take(newer, home, { offset: 0 }, requestOf('queue', 2, { ...ann, name: ['Ann'] }))
  assert.deepEqual(row('orders', 'order'), { name: ['Ann'], state: 'served' })
})

test('a request that old code accepted is compensated by new code', async () => {
  for (const isBare of [false, true]) {
    const { older, newer, home, row } = await bothSellers()
    take(older, home, { offset: 0 }, requestOf('book', 1, ann))
    assert.deepEqual(row('orders', 'order'), { name: 'Ann Lee', state: 'booked' })
    if (isBare) {
      // Rows from before there were versions have no version.
      const key = encodeKey(['order', 'order', identity('book')])
      const { version: _, ...holder } = home.tables.get('hence.holders')!.get(key) as { version: number }
      home.tables.get('hence.holders')!.put(key, holder)
    }
    take(newer, home, { offset: 1 }, requestOf('shrink', 1, {}))
    assert.deepEqual(row('orders', 'order'), { name: ['Ann', 'Lee'], state: 'sorry' })
  }
})

test('a request of newer code stops older code that must compensate it, and the error names the request', async () => {
  const { older, newer, home, row } = await bothSellers()
  take(newer, home, { offset: 0 }, requestOf('book', 2, { ...ann, name: ['Ann'] }))
  const message = /^Record 0:0 holds a request "book" of version 2, and this code knows version 1 alone/
  const start = home.state.mark()
  assert.throws(() => take(older, home, { offset: 1 }, requestOf('shrink', 1, {})), {
    code: 'unknown-version',
    message,
  })
  home.state.undo(start)
  take(newer, home, { offset: 1 }, requestOf('shrink', 1, {}))
  assert.deepEqual(row('orders', 'order'), { name: ['Ann'], state: 'sorry' })
})

test('dev mode reports an upcaster whose result does not fit the schema of the event', async () => {
  const { older, home, row } = await bothSellers()
  const wrong = sandboxed(await apps.seller(2, false))
  const old = sentBy(take(older, home, { offset: 0, here: 'order' }, requestOf('tell', 1, ann)), 0)
  take(wrong, home, { offset: 1 }, old, ['row-invalid'])
  assert.equal(row('heard', 'seat'), null)
})
