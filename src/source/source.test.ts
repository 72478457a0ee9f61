import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/passbook.ts'
import { appsOf } from '../../test/apps.ts'
import { retryError } from '../failure.ts'
import { createEngine, type Engine, type Report, type SourceFeed, source } from '../index.ts'
import { memoryStorage } from '../testing/memory-storage.ts'

type Bank = typeof made.bank
interface Paid {
  readonly account: string
  readonly cents: number
}

const bank = await appsOf<typeof made>(import.meta.resolve('../../test/apps/passbook.ts')).bank()

/** Payments in pages of three, and the position that was kept last. */
class Payments implements SourceFeed<Paid> {
  readonly all: Paid[] = []
  kept: string | undefined
  readonly #keyed: boolean

  constructor(keyed: boolean) {
    this.#keyed = keyed
  }

  async position() {
    return this.kept
  }

  async pull(position: string | undefined) {
    const from = Number(position ?? 0)
    const page = this.all.slice(from, from + 3)
    const messages = page.map((message, i) => ({
      ...{ place: `${from + i}`, message },
      ...(this.#keyed && { key: message.account }),
    }))
    return { messages, position: `${from + page.length}` }
  }

  async keep(position: string) {
    this.kept = position
  }
}

async function setUp(t: { after(run: () => Promise<void>): void }, keyed = true) {
  const engine = await createEngine<Bank>({ app: bank, data: memoryStorage(), report: () => {} })
  t.after(() => engine.close())
  const feed = new Payments(keyed)
  const reports: Report[] = []
  const begin = (given: Engine<Bank> = engine) => {
    const started = source<Bank, Paid>({
      ...{ engine: given, name: 'till', feed, pollMs: 1, report: (each) => reports.push(each) },
      request({ account, cents }) {
        if (cents === 0) return undefined
        if (cents < -1) throw new Error('no payment at all')
        return { type: 'deposit', input: { account, cents }, principal: 'ann' }
      },
    })
    t.after(() => started.close())
    return started
  }
  const entries = async (account: string) =>
    (await engine.scan('entries', { prefix: [account] })).map(({ value }) => value.cents)
  return { engine, feed, reports, begin, entries }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
const until = async (isSo: () => boolean) => {
  while (!isSo()) await turn()
}

test('messages become requests once, in order per key, also when all are delivered again', async (t) => {
  const { engine, feed, begin, entries } = await setUp(t)
  for (let n = 1; n <= 20; n++) feed.all.push({ account: `a${n % 3}`, cents: n })
  const first = begin()
  await until(() => feed.kept === '20')
  await first.close()
  assert.deepEqual(first.stats(), { position: '20', decided: 20, refused: 0 })
  assert.deepEqual(await entries('a0'), [3, 6, 9, 12, 15, 18])
  // The thirteenth failed, which is an outcome too.
  assert.deepEqual(await entries('a1'), [1, 4, 7, 10, 16, 19])
  const digest = await engine.digest()
  feed.kept = undefined
  const again = begin()
  await until(() => feed.kept === '20')
  assert.equal(again.stats().decided, 20)
  assert.equal(await engine.digest(), digest)
  assert.equal((await engine.story('till/4', { principal: 'ann' }))?.type, 'deposit')
})

test('messages that can never become requests are counted and reported, and stop no other', async (t) => {
  const { feed, reports, begin, entries } = await setUp(t)
  feed.all.push({ account: 'a', cents: 1 }, { account: 'a', cents: -1 }, { account: 'a', cents: 2 })
  feed.all.push({ account: 'a', cents: -2 }, { account: 'a', cents: 0 }, { account: 'a', cents: 3 })
  const started = begin()
  await until(() => feed.kept === '6')
  await started.close()
  assert.deepEqual(started.stats(), { position: '6', decided: 3, refused: 2 })
  assert.deepEqual(await entries('a'), [1, 2, 3])
  assert.deepEqual(
    reports.map(({ level, code }) => `${level} ${code}`),
    ['alarm source-refused', 'alarm source-refused'],
  )
  assert.match(reports[0]!.message, /The source "till" skips messages .* \(1\): 1\. The first: .*cents/s)
  assert.match(reports[1]!.message, /: 3\. The first: no payment at all/)
})

for (const keyed of [true, false]) {
  const holds = keyed ? 'its key alone' : 'all, without keys'
  test(`a request that the engine does not take now holds up ${holds}, and the position`, async (t) => {
    const { engine, feed, reports, begin, entries } = await setUp(t, keyed)
    feed.all.push({ account: 'a', cents: 1 }, { account: 'a', cents: 2 }, { account: 'b', cents: 3 })
    let isFull = true
    const full = new Proxy(engine, {
      get(of, name) {
        const value = Reflect.get(of, name)
        if (name !== 'submit') return typeof value === 'function' ? value.bind(of) : value
        return (type: 'deposit', input: Paid, options: { requestId: string }) =>
          isFull && input.cents === 1
            ? Promise.reject(retryError('overloaded', 'Too much is under way.'))
            : engine.submit(type, input, options)
      },
    })
    const started = begin(full)
    await until(() => reports.length > 0 && started.stats().decided === Number(keyed))
    assert.deepEqual([await entries('a'), await entries('b')], [[], keyed ? [3] : []])
    assert.equal(feed.kept, undefined)
    isFull = false
    await until(() => feed.kept === '3')
    assert.deepEqual([await entries('a'), await entries('b')], [[1, 2], [3]])
    assert.deepEqual(
      reports.map(({ code }) => code),
      ['source-held-up'],
    )
  })
}

test('a feed that fails is asked again from the position that was kept', async (t) => {
  const { feed, reports, begin, entries } = await setUp(t)
  feed.all.push({ account: 'a', cents: 1 }, { account: 'a', cents: 2 }, { account: 'a', cents: 3 })
  const keep = feed.keep
  feed.keep = async () => {
    feed.keep = keep
    throw new Error('the disk is full')
  }
  begin()
  await until(() => feed.kept === '3')
  assert.deepEqual(await entries('a'), [1, 2, 3])
  assert.match(reports[0]!.message, /^The source "till" is interrupted and tries again: the disk is full/)
})
