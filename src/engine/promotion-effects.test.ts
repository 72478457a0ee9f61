import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/letters.ts'
import { texts } from '../../test/apps/letters.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { type Clock, systemClock } from '../clock.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/letters.ts'))
const { greeter, shop } = apps

// Which effects a promotion delivers, and which the promotion back does.

/** Engines over one storage, and the letters that were sent, each as `id text`. */
function house(isOpen = () => true, clock = systemClock) {
  const data = memoryStorage({ partitions: 4, clock })
  const sent: string[] = []
  const open = (code: AppBundle, options: object = {}): Promise<Engine<App>> =>
    createEngine({
      app: code,
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

async function delivered(engine: Engine<App>): Promise<void> {
  while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
  await engine.idle()
}

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

/** Promotes code after four letters have been sent, and expects that none is sent again. */
async function sendsNoneAgain(after: AppBundle, clock?: Clock): Promise<void> {
  const before = await greeter({ name: 'g1' })
  const { open, sent } = house(() => true, clock)
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
  const after = await greeter({ name: 'g2', textFirst: true, suffix: '@' })
  // All records have the same log time, so that a request that moves to another partition comes after all of
  // them.
  await sendsNoneAgain(after, { now: () => Date.UTC(2026, 0, 1) })
})

test('an effect that is older than the window is not sent again when new code asks for it otherwise', async () => {
  const clock = new HandClock()
  clock.pass(Date.UTC(2026, 0, 1))
  const day = 86_400_000
  const { open, sent } = house(() => true, clock)
  const engine = await open(await greeter({ name: 'g1' }), { windowMs: day, checkpointRows: 1 })
  for (const to of ['ann', 'bob', 'cyd', 'dan']) {
    await engine.submit('greet', { to } as never, { requestId: to })
    await delivered(engine)
    clock.pass(2 * day)
  }
  const code = await greeter({ name: 'g2', text: 'good day' })
  await engine.reprocessing.start({ app: code })
  await promote(engine, 'p')
  await delivered(engine)
  const ids = sent.map((each) => each.split(' ')[0])
  assert.equal(new Set(ids).size, ids.length, 'an id has one content')
  const all = ['ann: hello', 'bob: hello', 'cyd: hello', 'dan: good day', 'dan: hello']
  assert.deepEqual(texts(sent), all)
  const digest = await engine.digest()
  await engine.close()
  const again = await open(code)
  assert.equal(await again.digest(), digest)
  await again.close()
})

test('an effect that falls out of the window during a promotion is not sent again', async () => {
  const clock = new HandClock()
  clock.pass(Date.UTC(2026, 0, 1))
  const day = 86_400_000
  const { open, sent } = house(() => true, clock)
  const engine = await open(await greeter({ name: 'g1' }), { windowMs: day, checkpointRows: 1 })
  let count = 0
  const greet = async () => {
    const to = `guest-${count++}`
    await engine.submit('greet', { to } as never, { requestId: to })
    clock.pass(day / 3)
  }
  await engine.reprocessing.start({ app: await greeter({ name: 'g2', text: 'good day' }) })
  const { sha256: diff } = await engine.reprocessing.diff()
  while (count < 9) {
    await greet()
    await delivered(engine)
  }
  let isPromoted = false
  const promotion = engine.reprocessing.promote({ diff }, { requestId: 'p' }).finally(() => {
    isPromoted = true
  })
  while (!isPromoted) {
    await greet()
    // The candidate falls some records behind, and the live generation forgets what is older.
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
  }
  await promotion
  await delivered(engine)
  const ids = sent.map((each) => each.split(' ')[0])
  assert.deepEqual(
    sent.filter((_, i) => ids.indexOf(ids[i]) !== i),
    [],
    'an id has one content',
  )
  await engine.close()
})

test('a delivered effect is not sent again because new code asks for it under another key', async () => {
  await sendsNoneAgain(await greeter({ name: 'g2', suffix: '@' }))
})

test('an effect that new code replaced before it was sent is sent after the promotion back', async () => {
  let isOpen = false
  const before = await greeter({ name: 'g1' })
  const after = await greeter({ name: 'g2', text: 'bye' })
  const { open, sent } = house(() => isOpen)
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
  const before = await greeter({ name: 'g1' })
  const after = await greeter({ name: 'g2', text: 'bye' })
  const { open, sent } = house()
  const old = await open(before, { handlers: undefined })
  await old.submit('greet', { to: 'ann' } as never, { requestId: 'r1' })
  await old.close()
  const engine = await open(after, { onCodeChange: 'reprocess' })
  await delivered(engine)
  assert.deepEqual(texts(sent), ['ann: bye'])
  await engine.close()
})

test('after a letter was replaced, promoting the same code again sends nothing, and other code sends its replacement once', async () => {
  const hello = await greeter({ name: 'g1' })
  const bye = await greeter({ name: 'g2', text: 'bye' })
  const later = await greeter({ name: 'g3', text: 'bye', texts: { ann: 'later' } })
  const { open, sent } = house()
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

/** Promotes one code after the other, and returns the letters; expects that no id has two contents. */
async function promoteAll(styles: readonly Omit<Parameters<typeof greeter>[0], 'name'>[]): Promise<string[]> {
  const { open, sent } = house()
  const [first, ...rest] = await Promise.all(styles.map((style, i) => greeter({ name: `g${i}`, ...style })))
  const engine = await open(first!)
  await engine.submit('greet', { to: 'ann' } as never, { requestId: 'r1' })
  await delivered(engine)
  for (const [i, app] of rest.entries()) {
    if (i > 0) await engine.reprocessing.discard()
    await engine.reprocessing.start({ app })
    await promote(engine, `p${i}`)
    await delivered(engine)
    // The same code derives the same from the log, what it keeps of others included.
    await engine.reprocessing.discard()
    await engine.reprocessing.start({ app }, { again: true })
    assert.equal((await engine.reprocessing.diff()).differences, 0)
  }
  await engine.close()
  const contents = new Map<string, string>()
  for (const each of sent) {
    const id = each.slice(0, each.indexOf(' '))
    assert.equal(contents.get(id) ?? each, each)
    contents.set(id, each)
  }
  return texts(sent)
}

test('an effect that promoted code does not ask for keeps its id when later code asks for another', async () => {
  const sent = await promoteAll(['hello', '', 'bye', '', 'hello', 'bye'].map((text) => ({ text })))
  assert.deepEqual(sent, ['ann: bye', 'ann: hello'])
})

test('an effect that a correction asked for keeps its content when later code corrects otherwise or not at all', async () => {
  const sent = await promoteAll([
    { text: 'hello' },
    { text: '', sorry: 'one' },
    { text: '', sorry: 'two' },
    { text: '' },
    { text: '', sorry: 'three' },
  ])
  assert.deepEqual(sent, ['ann: hello', 'ann: sorry: one'])
})

test('corrections are not repeated when everything is derived again', async () => {
  const [cheap, dear] = [await shop(0), await shop(3)]
  const { open } = house()
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

test('the answer to a question is not given to other code that asks another one under its id', async () => {
  let isOpen = true
  const answer = ({ input: { text } }: { input: { text: string } }) => {
    if (!isOpen) throw new Error('nobody answers')
    return `yes, ${text}`
  }
  const engine = await createEngine({
    app: await apps.asker('tea?'),
    data: memoryStorage({ partitions: 2 }),
    report: () => {},
    handlers: { ask: { deliver: answer, delayMs: 1, delayMsMax: 1, triesMax: 1_000_000 } },
  })
  await engine.submit('request', { who: 'ann' }, { requestId: 'r1' })
  await delivered(engine as never)
  assert.deepEqual(await engine.get('answers', ['ann']), { question: 'tea?', answer: 'yes, tea?' })
  isOpen = false
  await engine.reprocessing.start({ app: await apps.asker('milk?') })
  await promote(engine as never, 'p')
  assert.equal(await engine.get('answers', ['ann']), undefined)
  isOpen = true
  await delivered(engine as never)
  assert.deepEqual(await engine.get('answers', ['ann']), { question: 'milk?', answer: 'yes, milk?' })
  await engine.close()
})
