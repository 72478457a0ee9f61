import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type App, type AppBundle, createEngine, type Engine, HenceError, type Reply } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../apps/bank.ts'
import type { Variant } from '../apps/bank.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { eachSeed, firstSeed, oneSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { assertSameAgain, assertSameAtAnyPace } from './any-pace.ts'
import { CrashingStorage } from './crashing-storage.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../apps/bank.ts'))

// Versions of an app take over from each other, are derived as candidates, promoted and rolled back, under
// load and with crashes at random moments. In the end a derivation from the log alone must equal the live
// tables, and no request may have two outcomes. Nor may it matter how closely a generation follows the log.

const { runs } = runsOf(12)

const variants: readonly Variant[] = [
  {},
  { fee: 3, statement: 'paid' },
  { most: 500, corrects: true, statement: 'paid a lot' },
  { detour: true, indexed: true },
  { suffix: 'x', corrects: true },
  { lateMs: 2, detour: true, places: { limit: 12, mode: 'strict' } },
  { lateMs: 9, places: { limit: 12, mode: 'loose' }, suffix: 'y' },
]

/** Errors that are expected, because another change came first. */
const expectedCodes = new Set([
  'engine-closed',
  'reprocess-exists',
  'reprocess-none',
  'reprocess-same-code',
  'reprocess-paused',
  'diff-unknown',
])

/** From this seed on, candidates are begun, promoted and discarded more often. */
const restlessFrom = 2_000

async function world(seed: number): Promise<void> {
  const isRestless = seed >= restlessFrom
  const random = randomFrom(seed)
  const below = (count: number) => Math.floor(random() * count)
  const partitions = [1, 2, 3, 8][below(4)]!
  let time = 1_790_000_000_000
  // If time hardly moves, many records have the same log time, and only their positions order them.
  const pace = [0.01, 0.1, 0.3][below(3)]!
  const clock = {
    now() {
      if (random() < pace) time++
      return time
    },
  }
  const failing = random() < 0.3 ? 0.01 : 0
  const storage = new CrashingStorage({ partitions, clock, id: '0'.repeat(32), random, failing })
  const versions = await Promise.all(variants.map((variant) => bank(variant)))
  const problems: string[] = []
  const letters = new Map<string, string>()
  let code = 0
  const options = {
    checkpointRows: [5, 50, 5_000][below(3)]!,
    clock,
    random,
    report: ({ level, code, message }: { level: string; code: string; message: string }) => {
      const isExpected = code === 'derivation-failed' || code === 'writes-held-up'
      if (level === 'alarm' && !isExpected) problems.push(`${code}: ${message}`)
    },
    handlers: {
      letter({ id, input }: { id: string; input: unknown }) {
        const text = JSON.stringify(input)
        if ((letters.get(id) ?? text) !== text)
          problems.push(`${id} was delivered with ${text}, and before with ${letters.get(id)}`)
        letters.set(id, text)
      },
    },
  }
  const open = async (onCodeChange: 'refuse' | 'continue' | 'reprocess' = 'refuse'): Promise<Engine<App>> => {
    // The process that starts may not know which version is in force, so it tries them all.
    for (let i = 0; ; i++) {
      const app = versions[(code + i) % versions.length]!
      try {
        const engine = await createEngine({ app, data: storage.open(), onCodeChange, ...options } as never)
        code = (code + i) % versions.length
        return engine as Engine<App>
      } catch (error) {
        if (!(error instanceof HenceError) || (error.code !== 'code-changed' && error.advice !== 'retry'))
          throw error
        if (error.advice === 'retry') i--
        if (i === versions.length) throw error
      }
    }
  }
  const replies = new Map<string, Reply>()
  const inputs = new Map<string, object>()
  let engine = await open()
  const send = async (requestId: string) => {
    const input = inputs.get(requestId)!
    try {
      const reply = await engine.submit('pay', input as never, { requestId })
      // The outcome by promoted code stands beside the first one, and may change.
      const { replayed: _, corrected: _now, ...again } = reply
      const { replayed: __, corrected: _then, ...before } = replies.get(requestId) ?? reply
      assert.deepEqual(again, before, 'a retry got another reply')
      replies.set(requestId, reply)
    } catch (error) {
      if (error instanceof HenceError && error.advice === 'retry') return
      problems.push(String(error))
    }
  }
  const wish = (act: () => Promise<unknown>): Promise<unknown> =>
    act().catch((error) => {
      if (error instanceof HenceError && (error.advice === 'retry' || expectedCodes.has(error.code))) return
      problems.push(String((error as Error).stack))
    })
  const steps: (() => unknown)[] = [
    () => {
      for (let i = below(30); i >= 0; i--) {
        const requestId = `r${inputs.size}`
        const someone = () => `${'abcdefgh'[below(8)]}1`
        inputs.set(requestId, { from: someone(), to: someone(), cents: below(1_000) })
        void send(requestId)
      }
    },
    () => inputs.size > 0 && send(`r${below(inputs.size)}`),
    async () => {
      for (let turns = below(60); turns > 0; turns--) await new Promise(setImmediate)
    },
    () => wish(() => engine.reprocessing.start({ app: versions[below(versions.length)]! }, { again: true })),
    () => void wish(() => engine.reprocessing.diff()),
    () =>
      void wish(async () => {
        const { sha256: diff } = await engine.reprocessing.diff()
        await engine.reprocessing.promote({ diff }, { requestId: `p${below(1_000_000)}` })
      }),
    () => wish(() => (random() < 0.5 ? engine.reprocessing.pause() : engine.reprocessing.resume())),
    () => random() < (isRestless ? 0.9 : 0.2) && wish(() => engine.reprocessing.discard()),
    async () => {
      if (random() < 0.6) storage.crash()
      else await engine.close()
      engine = await open()
    },
    async () => {
      if (random() > 0.3) return
      await engine.close()
      code = below(versions.length)
      engine = await open(random() < 0.5 ? 'continue' : 'reprocess')
    },
  ]
  const weights = isRestless ? [5, 2, 6, 4, 1, 4, 1, 2, 2, 1] : [5, 2, 6, 2, 1, 2, 1, 1, 2, 1]
  const bag = steps.flatMap((step, i) => new Array<() => unknown>(weights[i]!).fill(step))
  for (let i = 0; i < 60; i++) await bag[below(bag.length)]!()

  // Half of the time, promote the candidate at the end. The log alone must lead to it too.
  if (random() < 0.5) {
    await wish(() => engine.reprocessing.resume())
    await wish(async () => {
      const { sha256: diff } = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff }, { requestId: 'last' })
    })
  }
  await wish(() => engine.reprocessing.discard())
  await assertSameCodeSameResult(engine, storage, versions, wish)
  for (const requestId of inputs.keys()) {
    // Appends fail now and then.
    do await send(requestId)
    while (!replies.has(requestId) && problems.length === 0)
  }
  while (engine.stats().nextTimerAt !== undefined) await new Promise(setImmediate)
  await engine.idle()
  const digest = await engine.digest()
  const history = await engine.reprocessing.history()
  await engine.close()
  assert.deepEqual(problems, [])
  assert.equal(replies.size, inputs.size, 'a request was lost')

  let bare: Engine<App> | undefined
  for (const each of versions) {
    bare = (await createEngine({
      app: each,
      ...options,
      handlers: {},
      data: { ...memoryStorage({ partitions }), log: storage.log, kept: storage.open().kept },
    } as never).catch((error) => {
      if (error.code !== 'code-changed') throw error
    })) as Engine<App> | undefined
    if (bare) break
  }
  assert.deepEqual(await bare!.reprocessing.history(), history)
  assert.equal(await bare!.digest(), digest, 'a derivation from the log alone has another digest')
  for (const [requestId, reply] of replies) {
    const { outcome } = (await bare!.story(requestId))!
    const { status } = reply
    assert.equal(outcome?.status, status, `${requestId} got the reply ${status}`)
  }
  await bare!.close()
  await assertSameAtAnyPace(storage.log, versions, randomFrom(seed))
}

/**
 * Derives everything again with the live code, if that code derived it from the first record on. Nothing may
 * differ.
 */
async function assertSameCodeSameResult(
  engine: Engine<App>,
  { log }: CrashingStorage,
  versions: readonly AppBundle[],
  wish: (act: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const { generation, version } = engine.stats()
  const facts = (await engine.reprocessing.history()).filter((fact) => fact.generation === generation)
  const took = facts.some((fact) =>
    fact.type === 'promotion' ? fact.base !== version : fact.before !== undefined,
  )
  if (took) return
  const app = versions.find((each) => each.hash === version)!
  await wish(async () => {
    await engine.reprocessing.start({ app }, { again: true })
    const lines: string[] = []
    await engine.reprocessing.diff({ each: (line) => lines.push(line) })
    if (lines.length > 0) await assertSameAgain(log, versions, generation, version)
    assert.deepEqual(lines, [], 'the same code derived something else')
    await engine.reprocessing.discard()
  })
}

replayKept('generations', world)

const name = crashAt(
  'any turn of the event loop',
  `code changes, promotions and rollbacks leave the tables of the log, ${runs} worlds`,
)
test(name, async () => {
  await eachSeed('generations', runs, world)
  for (let i = 0; i < runs; i++) await oneSeed('generations', restlessFrom + firstSeed + i, world)
})
