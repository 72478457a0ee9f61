import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createEngine, type Engine, type Reply } from 'hence'
import { systemClock } from '../../src/clock.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import { randomFrom } from '../random.ts'
import type old from './wallets-old.ts'

// Everything is derived again, compared and promoted while clients keep sending. The worst result would be
// tables that do not follow from the log; then a request that is lost, refused or answered differently
// because of it.

const records = Number(process.env['HENCE_RECORDS'] ?? 4_000)
const clients = 64
const partitions = 4

const modules = {
  old: import.meta.resolve('./wallets-old.ts'),
  new: import.meta.resolve('./wallets-new.ts'),
}

function openOld(directory: string): Promise<Engine<typeof old>> {
  return open(directory, modules.old)
}

async function open(directory: string, app: string): Promise<Engine<typeof old>> {
  const data = await openDirectory({ directory, partitions, clock: systemClock, report: () => {} })
  return createEngine<typeof old>({
    app,
    data,
    handlers: { sorry: () => {} } as never,
    report: () => {},
  })
}

/** Clients that send one request after another. */
class Load {
  readonly told = new Map<string, Reply>()
  readonly failures: unknown[] = []
  /** The longest that a request took since the last reset, in milliseconds. */
  longestMs = 0
  #isOver = false
  readonly #running: Promise<void>

  constructor(engine: Engine<typeof old>, name: string, count: number, each: number) {
    const one = async (client: number) => {
      const random = randomFrom(client)
      const someone = () => `wallet ${Math.floor(random() * 2_000)}`
      for (let i = 0; i < each && !this.#isOver; i++) {
        const requestId = `${name}-${client}-${i}`
        const input = { from: someone(), to: someone(), cents: 1 + Math.floor(random() * 1_000) }
        const sentAt = performance.now()
        try {
          this.told.set(requestId, await engine.submit('move', input, { requestId }))
        } catch (error) {
          this.failures.push(error)
        }
        this.longestMs = Math.max(this.longestMs, performance.now() - sentAt)
      }
    }
    this.#running = Promise.all(Array.from({ length: count }, (_, client) => one(client))).then(() => {})
  }

  /** Resolves after this many more replies. */
  async more(count: number): Promise<void> {
    const { size } = this.told
    while (this.told.size < size + count) await new Promise(setImmediate)
  }

  ended(): Promise<void> {
    return this.#running
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }
}

async function loaded(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'hence-load-'))
  const engine = await openOld(directory)
  t.after(async () => {
    await engine.close()
    await rm(directory, { recursive: true })
  })
  // A request and the event that it emits.
  await new Load(engine, 'before', 512, Math.ceil(records / 2 / 512)).ended()
  await engine.idle()
  return { directory, engine }
}

/** Checks that the engine's stored outcomes equal the replies, for at most this many requests. */
async function checkTold(engine: Engine<typeof old>, { told, failures }: Load): Promise<void> {
  assert.deepEqual(failures, [])
  const every = Math.ceil(told.size / 5_000)
  let i = 0
  for (const [requestId, reply] of told) {
    if (i++ % every !== 0) continue
    const { status, ...rest } = (await engine.story(requestId))!.outcome!
    assert.equal(status, reply.status, requestId)
    if ('value' in rest) assert.deepEqual(rest.value, (reply as never as typeof rest).value, requestId)
  }
}

/** Runs something while clients send, and logs the slowest request meanwhile. */
async function holding<T>(t: TestContext, load: Load, what: string, act: () => Promise<T>): Promise<T> {
  load.longestMs = 0
  const before = load.told.size
  const startedAt = performance.now()
  const made = await act()
  const ms = performance.now() - startedAt
  // Once as many requests as there are clients have replies, those that were held back have too.
  const meanwhile = load.told.size - before
  await load.more(clients)
  t.diagnostic(
    `${what}: ${ms.toFixed(0)} ms, ${meanwhile} requests decided meanwhile, the slowest in ${load.longestMs.toFixed(0)} ms`,
  )
  return made
}

test(`the same code, derived again from ${records} records under load, has an empty diff`, async (t) => {
  const { engine } = await loaded(t)
  const load = new Load(engine, 'meanwhile', clients, Number.POSITIVE_INFINITY)
  const { reprocessing } = engine
  await reprocessing.start({ app: modules.old }, { again: true })
  await holding(t, load, 'deriving again', () => reprocessing.caughtUp())
  const { differences } = await holding(t, load, 'diff', () => reprocessing.diff())
  assert.equal(differences, 0)
  await load.stop()
  await checkTold(engine, load)
})

test(`other code, derived again from ${records} records and promoted under load, has the tables of the log`, async (t) => {
  const { directory, engine } = await loaded(t)
  const load = new Load(engine, 'meanwhile', clients, Number.POSITIVE_INFINITY)
  const { reprocessing } = engine
  await reprocessing.start({ app: modules.new })
  await holding(t, load, 'deriving again', () => reprocessing.caughtUp())
  const { sha256: diff, differences } = await holding(t, load, 'diff', () => reprocessing.diff())
  assert.ok(differences > 0)
  const promotion = await holding(t, load, 'promotion', () =>
    reprocessing.promote({ diff }, { requestId: 'promotion' }),
  )
  assert.ok(promotion.corrections.outcome > 0)
  t.diagnostic(`${differences} differences, ${promotion.corrections.outcome} outcomes corrected`)
  await load.more(500)
  await load.stop()
  await engine.idle()
  await checkTold(engine, load)
  // The results of effects become records, so none may be under way.
  while ((await engine.effects.list({ state: 'pending', limit: 1 })).length > 0)
    await new Promise(setImmediate)
  await engine.idle()
  const digest = await engine.digest()
  await engine.close()

  await rm(join(directory, 'state'), { recursive: true })
  const anew = await open(directory, modules.new)
  try {
    assert.equal(anew.stats().generation, promotion.generation)
    assert.equal(await anew.digest(), digest)
  } finally {
    await anew.close()
  }
})
