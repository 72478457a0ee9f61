import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type App, type AppBundle, createEngine, type Engine, type Report, systemClock } from 'hence'
import { type Position, restore } from '../../src/offline/index.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import type * as made from '../apps/bank.ts'
import { appsOf } from '../apps.ts'

const { bank } = appsOf<typeof made>(import.meta.resolve('../apps/bank.ts'))

// A promotion takes many writes: a control record in each partition, then corrections. A backup may end
// between any two of them, and a start on it must have the tables that follow from that log alone.

// No timer fires, since a start would write the records that follow.
const lateMs = 24 * 60 * 60 * 1000
const old = await bank({ statement: 'paid', lateMs })
const fresh = await bank({ statement: 'paid a lot', most: 500, corrects: true, lateMs })
const people = 'abcdefghijkl'.split('')

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-backup-promotion-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

/** The candidate is derived in this process, which is faster for so few records. */
async function open(app: AppBundle, directory: string, options: object = {}): Promise<Engine<App>> {
  const report = ({ level, message }: Report) => assert.ok(level !== 'alarm', message)
  const opened = await openDirectory({ directory, partitions: 3, clock: systemClock, report })
  const { directory: _, ...data } = opened
  return createEngine({ app, data, handlers: { letter: () => {} } as never, report, ...options })
}

async function pay(engine: Engine<App>, name: string, count: number): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, (_, i) => {
      const [from, to] = [people[i % 12]!, people[(i * 5 + 1) % 12]!]
      const input = { from, to, cents: 5 * (1 + ((i * 37) % 160)) }
      return engine.submit('pay', input as never, { requestId: `${name}-${i}` })
    }),
  )
  await engine.idle()
}

async function promote(engine: Engine<App>, requestId: string): Promise<void> {
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId, principal: 'mo' })
}

/** A data directory with a promotion in its middle, and a rollback at its end. */
async function promoted(data: string) {
  const engine = await open(old, data)
  await pay(engine, 'one', 40)
  await engine.reprocessing.start({ app: fresh })
  await promote(engine, 'p1')
  await pay(engine, 'two', 12)
  await promote(engine, 'p2')
  await pay(engine, 'three', 12)
  const [, ...history] = await engine.reprocessing.history()
  const { applied } = engine.stats()
  await engine.close()
  return { history, applied }
}

test('a copy that ends anywhere within a promotion starts, with the tables of its log', async (t) => {
  const folder = await folderFor(t)
  const data = join(folder, 'data')
  const { history, applied } = await promoted(data)
  const corrections = history.flatMap((fact) => (fact.type === 'promotion' ? [fact.corrections] : []))
  assert.ok(corrections.every((count) => count > 10))
  const seen = { before: 0, within: 0, after: 0 }
  const partition = 1
  const step = process.env['HENCE_RUNS'] ? 1 : 7
  const from = history[0]!.positions[partition]! - 2
  for (let offset = from; offset < applied[partition]!; offset += step) {
    const to = join(folder, `at-${offset}`)
    const { ends, flaws } = await restore({ from: data, to, at: [{ partition, offset }] })
    assert.deepEqual(flaws, [])
    const past = history.filter(({ positions }) => positions.every((at, i) => ends[i]! > at))
    assert.ok(
      history.slice(past.length).every(({ positions }) => positions.every((at, i) => ends[i]! <= at)),
      'some partitions lack the control record',
    )
    const live = past.length === 1 ? fresh : old
    // No effect is delivered, so all records written are corrections.
    let engine = await open(live, to, { handlers: undefined })
    await engine.idle()
    const written = engine.stats().applied.reduce((sum, each) => sum + each, 0)
    const ended = ends.reduce((sum, each) => sum + each, 0)
    seen[past.length === 0 ? 'before' : written > ended ? 'within' : 'after']++
    await pay(engine, 'more', 3)
    const last = await engine.digest()
    await engine.close()
    await rm(join(to, 'state'), { recursive: true })
    engine = await open(live, to)
    assert.equal(await engine.digest(), last, `${partition}:${offset}`)
    await engine.close()
    await rm(to, { recursive: true })
  }
  assert.ok(seen.before > 0 && seen.within > 1 && seen.after > 0, JSON.stringify(seen))
})

test('a copy without correction files that its log still needs does not start', async (t) => {
  const folder = await folderFor(t)
  const data = join(folder, 'data')
  const { history } = await promoted(data)
  const [promotion] = history
  const kept = join(data, 'promotions', `${promotion!.number}-0.ndjson`)
  const within = promotion!.positions.map((at, partition) => ({ partition, offset: at + 1 }))
  const text = await readFile(kept, 'utf8')
  const codesOf = async (name: string, at?: readonly Position[]) =>
    (await restore({ from: data, to: join(folder, name), at })).flaws.map(({ code }) => code)

  await rm(kept)
  // The log has all corrections.
  assert.deepEqual(await codesOf('whole'), [])
  assert.deepEqual(await codesOf('part', within), ['corrections-lost'])
  await assert.rejects(open(fresh, join(folder, 'part')), { code: 'corrections-lost' })
  await writeFile(kept, text.replace('paid', 'owed'))
  assert.deepEqual(await codesOf('changed', within), ['corrections-changed-on-disk'])
  await assert.rejects(open(fresh, join(folder, 'changed')), { code: 'corrections-lost' })
})
