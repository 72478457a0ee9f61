import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type App, createEngine, type Engine, type Row, type TableChange } from 'hence'
import { client, memory } from 'hence/client'
import { server } from 'hence/server'
import type * as made from '../apps/bank.ts'
import { appsOf } from '../apps.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../apps/bank.ts'))

// A consumer of a table's changes holds a copy of it. A promotion changes rows without a record for each, so
// every consumer must be notified to read the table again, and must end with the engine's rows, whenever it
// happens.

const old = await bank({ statement: 'paid' })
const fresh = await bank({ fee: 3, most: 500, corrects: true })
const people = 'abcdefghijkl'.split('')

async function opened(t: TestContext): Promise<Engine<App>> {
  const data = await mkdtemp(join(tmpdir(), 'hence-promotion-'))
  const engine: Engine<App> = await createEngine({
    app: old,
    data,
    partitions: 3,
    report: () => {},
  })
  t.after(async () => {
    await engine.close()
    await rm(data, { recursive: true })
  })
  return engine
}

/** Sends payments, a few at a time, until it is stopped. */
function load(engine: Engine<App>, name: string) {
  let stopped = false
  const lanes = Array.from({ length: 4 }, async (_, lane) => {
    for (let i = 0; !stopped; i++) {
      const input = { from: people[i % 12]!, to: people[(i * 5 + lane) % 12]!, cents: 1 + ((i * 37) % 700) }
      await engine.submit('pay', input as never, { requestId: `${name}-${lane}-${i}` })
    }
  })
  return async () => {
    stopped = true
    await Promise.all(lanes)
    // Timers are set a moment ahead.
    while (engine.stats().nextTimerAt !== undefined) await new Promise(setImmediate)
    await engine.idle()
  }
}

async function promote(engine: Engine<App>, requestId: string): Promise<void> {
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId })
}

/** A copy of rows, by key. */
class Copy {
  readonly rows = new Map<string, unknown>()

  read(rows: readonly Row<never, never>[]): void {
    this.rows.clear()
    for (const { key, value } of rows) this.rows.set(JSON.stringify(key), value)
  }

  take(changes: readonly TableChange[]): void {
    for (const { table, key, after } of changes) {
      if (table !== 'accounts') continue
      if (after === undefined) this.rows.delete(JSON.stringify(key))
      else this.rows.set(JSON.stringify(key), after)
    }
  }

  get sorted(): [string, unknown][] {
    return [...this.rows].sort()
  }
}

async function accounts(engine: Engine<App>): Promise<[string, unknown][]> {
  const copy = new Copy()
  copy.read((await engine.scan('accounts')) as never)
  return copy.sorted
}

test('changes from a position that was read with the rows continue or are refused, also during a promotion', async (t) => {
  const engine = await opened(t)
  const stop = load(engine, 'first')
  await engine.reprocessing.start({ app: fresh })
  const taken: { readonly position: string; readonly copy: Copy; readonly generation: number }[] = []
  let sampling = true
  const samples = (async () => {
    while (sampling) {
      await new Promise(setImmediate)
      const copy = new Copy()
      const position = engine.position()
      const { generation } = engine.stats()
      copy.read((await engine.scan('accounts')) as never)
      taken.push({ position, copy, generation })
    }
  })()
  await promote(engine, 'p1')
  await promote(engine, 'p2')
  sampling = false
  await samples
  await stop()
  const now = await accounts(engine)
  let refused = 0
  // Each is held against all later changes, so there may not be too many.
  const step = Math.ceil(taken.length / 100)
  for (let i = 0; i < taken.length; i += step) {
    const { position, copy } = taken[i]!
    const stopAt = new AbortController()
    try {
      const changes = engine.changes({ from: position, signal: stopAt.signal })[Symbol.asyncIterator]()
      for (;;) {
        // All stored changes arrive within one turn of the event loop.
        const next = await Promise.race([
          changes.next(),
          new Promise<undefined>((r) => setImmediate(r, undefined)),
        ])
        if (next === undefined || next.done) break
        copy.take(next.value.changes)
      }
      stopAt.abort()
      assert.deepEqual(copy.sorted, now, position)
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'position-unknown', String(error))
      refused++
    }
  }
  assert.ok(refused > 0 && taken.some(({ generation }) => generation === 1))
})

test('a consumer in the process is notified of a promotion, even if no record follows', async (t) => {
  const engine = await opened(t)
  await load(engine, 'first')()
  await engine.reprocessing.start({ app: fresh })
  const follower = (async () => {
    for await (const _ of engine.changes()) assert.fail('a row change of a promotion was delivered')
  })()
  const refused = assert.rejects(follower, { code: 'position-unknown', advice: 'change' })
  await promote(engine, 'p1')
  await refused
})

test('a client that follows a table over HTTP ends with the right rows, through a promotion and a rollback', async (t) => {
  const engine = await opened(t)
  const web = server(engine, { open: true })
  const { url } = await web.listen()
  const following = client<App>({ url, outbox: memory() })
  t.after(async () => {
    await following.close()
    await web.close()
  })
  const copy = new Copy()
  let anews = 0
  let heard = Promise.withResolvers<void>()
  const said = () => {
    heard.resolve()
    heard = Promise.withResolvers()
  }
  /** Reads one after another; changes during a read are applied after it. */
  let reading = Promise.resolve()
  let pending: (readonly TableChange[])[] | undefined
  following.subscribe(
    {
      tables: ['accounts'] as never,
      anew() {
        anews++
        const told: (readonly TableChange[])[] = []
        pending = told
        reading = reading.then(async () => {
          const rows = await following.scan('accounts' as never)
          // A newer read has started since.
          if (pending !== told) return
          copy.read(rows as never)
          for (const changes of told) copy.take(changes)
          pending = undefined
          said()
        })
      },
      ended: (error) => assert.fail(error),
    },
    (changes) => {
      if (pending) pending.push(changes as never)
      else copy.take(changes as never)
      said()
    },
  )
  const same = async () => {
    for (;;) {
      const next = heard.promise
      if (JSON.stringify(copy.sorted) === JSON.stringify(await accounts(engine))) return
      await next
    }
  }
  const stop = load(engine, 'first')
  await engine.reprocessing.start({ app: fresh })
  await promote(engine, 'p1')
  await stop()
  await same()
  assert.equal(anews, 2)
  assert.equal(engine.stats().generation, 1)
  const again = load(engine, 'second')
  await promote(engine, 'p2')
  await again()
  await same()
  assert.equal(anews, 3)
  assert.equal(engine.stats().generation, 0)
})
