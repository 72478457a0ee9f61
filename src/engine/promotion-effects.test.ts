import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Clock, systemClock } from '../clock.ts'
import { type App, app, createEngine, type Engine, effect, reject, scopes } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

// Which effects a promotion delivers, and which the promotion back does.

const [customer] = scopes('customer')
const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })

interface Style {
  readonly name: string
  /** The input of the letter. */
  readonly letter?: (to: string) => { readonly to: string; readonly text: string }
  readonly key?: (to: string) => string
}

/** An app that sends a letter for each request. */
function greeter({ name, letter: write = (to) => ({ to, text: 'hello' }), key = (to) => to }: Style): App {
  const greet = customer.request('greet', {
    input: z.object({ to: z.string() }),
    key: ({ to }) => key(to),
    derive(tx, { to }) {
      if (to === '') return reject('nobody')
      tx.effect(letter, write(to))
      return null
    },
  })
  return app(name, { requests: [greet], tables: [], effects: [letter] }) as App
}

/** Engines over one storage, and the letters that were sent, each as `id text`. */
function house(versions: readonly App[], isOpen = () => true, clock = systemClock) {
  const data = memoryStorage({ partitions: 4, clock })
  const sent: string[] = []
  const open = (code: App, options: object = {}): Promise<Engine<App>> =>
    createEngine({
      app: code,
      earlier: versions,
      data,
      clock,
      report: () => {},
      handlers: {
        letter: {
          delayMs: 1,
          delayMsMax: 1,
          triesMax: 1_000_000,
          async deliver({ id, input }: { id: string; input: { to: string; text: string } }) {
            if (!isOpen()) throw new Error('the post office is closed')
            sent.push(`${id} ${input.to}: ${input.text}`)
          },
        },
      },
      ...options,
    } as never)
  return { data, sent, open }
}

const texts = (sent: readonly string[]) => sent.map((each) => each.slice(each.indexOf(' ') + 1)).sort()

async function delivered(engine: Engine<App>): Promise<void> {
  while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
  await engine.idle()
}

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

/** Promotes code after four letters have been sent, and expects that none is sent again. */
async function sendsNoneAgain(after: App, clock?: Clock): Promise<void> {
  const before = greeter({ name: 'g1' })
  const { open, sent } = house([before, after], () => true, clock)
  const engine = await open(before)
  for (const to of ['ann', 'bob', 'cyd', 'dan']) {
    await engine.submit('greet', { to } as never, { requestId: to })
  }
  await delivered(engine)
  await engine.reprocessing.start({ app: after })
  await promote(engine, 'p')
  await delivered(engine)
  assert.deepEqual(texts(sent), ['ann: hello', 'bob: hello', 'cyd: hello', 'dan: hello'])
  await engine.close()
}

test('an effect whose result is in the log before the new code asks for it is not sent again, whatever the order of its fields', async () => {
  const after = greeter({ name: 'g2', letter: (to) => ({ text: 'hello', to }), key: (to) => `${to}@` })
  // All records have the same log time, so that a request that moves to another partition comes after all of them.
  await sendsNoneAgain(after, { now: () => Date.UTC(2026, 0, 1) })
})

test('a delivered effect is not sent again because new code asks for it under another key', async () => {
  await sendsNoneAgain(greeter({ name: 'g2', key: (to) => `${to}@` }))
})

test('an effect that new code replaced before it was sent is sent after the promotion back', async () => {
  let isOpen = false
  const before = greeter({ name: 'g1' })
  const after = greeter({ name: 'g2', letter: (to) => ({ to, text: 'bye' }) })
  const { open, sent } = house([before, after], () => isOpen)
  const engine = await open(before)
  await engine.submit('greet', { to: 'ann' } as never, { requestId: 'r1' })
  await engine.reprocessing.start({ app: after })
  await promote(engine, 'p1')
  isOpen = true
  await delivered(engine)
  assert.deepEqual(texts(sent), ['ann: bye'])
  await promote(engine, 'p2')
  await delivered(engine)
  assert.deepEqual(texts(sent), ['ann: bye', 'ann: hello'])
  await engine.close()
})

test('a start with onCodeChange reprocess delivers each effect once', async () => {
  const before = greeter({ name: 'g1' })
  const after = greeter({ name: 'g2', letter: (to) => ({ to, text: 'bye' }) })
  const { open, sent } = house([before, after])
  const old = await open(before, { handlers: undefined })
  await old.submit('greet', { to: 'ann' } as never, { requestId: 'r1' })
  await old.close()
  const engine = await open(after, { onCodeChange: 'reprocess' })
  await delivered(engine)
  assert.deepEqual(texts(sent), ['ann: bye'])
  await engine.close()
})

test('after a letter was replaced, promoting the same code again sends nothing, and other code sends its replacement once', async () => {
  const hello = greeter({ name: 'g1' })
  const bye = greeter({ name: 'g2', letter: (to) => ({ to, text: 'bye' }) })
  const later = greeter({ name: 'g3', letter: (to) => ({ to, text: to === 'ann' ? 'later' : 'bye' }) })
  const { open, sent } = house([hello, bye, later])
  const engine = await open(hello)
  for (const to of ['ann', 'bob']) await engine.submit('greet', { to } as never, { requestId: to })
  await delivered(engine)
  await engine.reprocessing.start({ app: bye })
  await promote(engine, 'p1')
  await delivered(engine)
  const both = ['ann: bye', 'ann: hello', 'bob: bye', 'bob: hello']
  assert.deepEqual(texts(sent), both)

  await engine.reprocessing.discard()
  await engine.reprocessing.start({ app: bye }, { again: true })
  const { differences, sha256: diff } = await engine.reprocessing.diff()
  assert.equal(differences, 0)
  const digest = await engine.digest()
  await engine.reprocessing.promote({ diff }, { requestId: 'p2' })
  assert.equal(await engine.digest(), digest)
  await delivered(engine)
  assert.deepEqual(texts(sent), both)

  for (const requestId of ['p3', 'p4']) {
    await engine.reprocessing.discard()
    await engine.reprocessing.start({ app: later }, { again: true })
    await promote(engine, requestId)
    await delivered(engine)
    assert.deepEqual(texts(sent), ['ann: bye', 'ann: hello', 'ann: later', 'bob: bye', 'bob: hello'])
  }
  await engine.close()
})

test('corrections are not repeated when everything is derived again', async () => {
  const [account] = scopes('account')
  const rows = account.table('rows', { value: z.object({ cents: z.int() }) })
  const shop = (name: string, fee: number) => {
    const pay = account.request('pay', {
      input: z.object({ who: z.string(), cents: z.int() }),
      key: ({ who }) => who,
      derive(tx, { cents }) {
        const was = tx.get(rows)?.cents ?? 0
        const left = name === 'dear' ? was - cents - 3 : was - cents
        tx.put(rows, { cents: left })
        return { left }
      },
    })
    const good = account.correct((tx, correction) => {
      if (correction.kind === 'outcome') tx.put(rows, { cents: (tx.get(rows)?.cents ?? 0) + 100 })
    })
    return app(`${name}${fee}`, { requests: [pay], tables: [rows], reactions: [good] }) as App
  }
  const [cheap, dear] = [shop('cheap', 0), shop('dear', 3)]
  const { open } = house([cheap, dear])
  const engine = await open(cheap, { handlers: {} })
  await engine.submit('pay', { who: 'ann', cents: 10 } as never, { requestId: 'r1' })
  await engine.reprocessing.start({ app: dear })
  await promote(engine, 'p1')
  assert.deepEqual(await engine.get('rows', ['ann'] as never), { cents: 87 })
  await engine.reprocessing.discard()
  await engine.reprocessing.start({ app: dear }, { again: true })
  await promote(engine, 'p2')
  assert.deepEqual(await engine.get('rows', ['ann'] as never), { cents: 87 })
  // The first outcome still stands.
  const { outcome, corrected } = (await engine.story('r1'))!
  assert.deepEqual(
    [outcome, corrected].map((each) => (each as { value: unknown }).value),
    [{ left: -10 }, { left: -13 }],
  )
  await engine.close()
})
