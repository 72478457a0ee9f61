import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Clock, systemClock } from './clock.ts'
import { type App, app, createEngine, type Engine, effect, reject, scopes } from './index.ts'
import { memoryStorage } from './testing/index.ts'

// What is sent, and what is not, when another generation becomes live, and when the one before becomes live again.

const [customer] = scopes('customer')
const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })

interface Style {
  readonly name: string
  /** The input of the letter. */
  readonly letter?: (to: string) => { readonly to: string; readonly text: string }
  readonly key?: (to: string) => string
}

/** Greets whoever asks for it, in a version. */
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
  while (engine.effects({ state: 'pending' }).length > 0) await new Promise(setImmediate)
  await engine.idle()
}

async function promote(engine: Engine<App>, requestId: string) {
  const { sha256: diff } = await engine.reprocessing.diff()
  return engine.reprocessing.promote({ diff }, { requestId })
}

/** Promotes code where four letters have been sent, and expects that none is sent again. */
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

test('an effect whose end the log holds before other code asks for it is not sent again, in whatever order its fields are written', async () => {
  const after = greeter({ name: 'g2', letter: (to) => ({ text: 'hello', to }), key: (to) => `${to}@` })
  // All records have the same log time, so that what moves to another partition comes behind all of them.
  await sendsNoneAgain(after, { now: () => Date.UTC(2026, 0, 1) })
})

test('an effect that was done is not sent again since other code asks for it under another key', async () => {
  await sendsNoneAgain(greeter({ name: 'g2', key: (to) => `${to}@` }))
})

test('an effect that other code replaced before it was sent is sent after the way back', async () => {
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

test('a start that reprocesses delivers by one deliverer', async () => {
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
