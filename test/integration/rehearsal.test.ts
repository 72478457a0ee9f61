import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createEngine, type Engine, systemClock } from 'hence'
import { doctor, verify } from 'hence/offline'
import { readRehearsal } from '../../src/audit/rehearsed.ts'
import { readPublicKey } from '../../src/audit/signing-key.ts'
import type { Report } from '../../src/report.ts'
import { encodeKey } from '../../src/state/keys.ts'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import { stateFolder } from '../../src/storage/states.ts'
import type app from '../faults/till.ts'
import { HandClock } from '../hand-clock.ts'

// A process derives the log again beside a running engine, and compares everything with the live state.

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-rehearsal-'))
  t.after(async () => {
    for (const engine of engines.splice(0)) await engine.close()
    await rm(folder, { recursive: true })
  })
  return folder
}

const engines: Engine<typeof app>[] = []
const reports: Report[] = []

async function open(
  data: string,
  from = systemClock.now(),
): Promise<{ engine: Engine<typeof app>; clock: HandClock }> {
  const clock = new HandClock()
  clock.pass(from - clock.now())
  const engine = await createEngine<typeof app>({
    app: import.meta.resolve('../faults/till.ts'),
    ...{ data, partitions: 3, clock, audit: true, checkpointRows: 50 },
    report: (report) => void reports.push(report),
  })
  engines.push(engine)
  return { engine, clock }
}

/** The process of the rehearsal has a lower priority, so this one must leave it time. */
const leaveTime = () => pause(20)

/** Lets a first reading of the log end, and a time pass; then waits. */
async function passUntil(
  { engine, clock }: Awaited<ReturnType<typeof open>>,
  ms: number,
  isSo: () => boolean,
): Promise<void> {
  while (engine.stats().scrubbedAt === undefined) await leaveTime()
  clock.pass(ms)
  for (; !isSo(); await leaveTime()) {
    const failed = reports.find(({ code }) => code === 'rehearsal-failed')
    if (failed) assert.fail(failed.message)
  }
}

let sent = 0
const pay = (engine: Engine<typeof app>) =>
  engine.submit(
    'pay',
    { till: `till ${sent % 7}`, town: `town ${sent % 3}`, cents: 1 },
    { requestId: `r${sent++}` },
  )

test('while requests come, the log is derived again, found equal, and that is signed', async (t) => {
  const data = await folderFor(t)
  const opened = await open(data)
  const { engine } = opened
  for (let i = 0; i < 200; i++) await pay(engine)
  let isOver = false
  const load = (async () => {
    for (; !isOver; await leaveTime()) await pay(engine)
  })()
  await passUntil(opened, 60_000, () => engine.stats().rehearsedAt !== undefined)
  isOver = true
  await load
  assert.deepEqual(reports, [])
  const line = await readFile(join(data, 'audit/rehearsal.json'), 'utf8')
  const key = readPublicKey(await readFile(join(data, 'audit/public-key.pem'), 'utf8'))
  const { generation, version, positions, head, time } = readRehearsal([key], line)!
  assert.deepEqual([generation, version], [0, engine.stats().version])
  assert.ok(positions.every((position, i) => position > 20 && position <= head.partitions[i]!.size))
  assert.equal(readRehearsal([key], line.replace('"generation":0', '"generation":1')), undefined)
  await engine.close()

  const found = (await doctor({ data })).findings.find(({ code }) => code === 'rehearsed')!
  assert.ok(found.message.includes(new Date(time).toISOString()), found.message)
  assert.equal((await verify({ data })).ok, true)
  // The next process knows, and does it again a day later.
  const next = await open(data, opened.clock.now())
  assert.equal(next.engine.stats().rehearsedAt, time)
  await passUntil(next, 2 * 86_400_000, () => next.engine.stats().rehearsedAt !== time)
  assert.ok(next.engine.stats().rehearsedAt! - time >= 86_400_000)
})

test('a row that somebody has changed is an alarm with table, key and record', async (t) => {
  const data = await folderFor(t)
  const first = await open(data)
  for (let i = 0; i < 20; i++) await pay(first.engine)
  const { token } = await pay(first.engine)
  const till = `till ${(sent - 1) % 7}`
  await first.engine.close()
  const store = await openLmdbStore({ directory: stateFolder(data, 0), collections: ['t:tills'] })
  const key = encodeKey([till])
  const row = JSON.parse(store.get('t:tills', key)!)
  await store.write([['t:tills', [[key, JSON.stringify({ ...row, cents: 1_000 })]]]])
  await store.close()

  reports.length = 0
  const opened = await open(data)
  await passUntil(opened, 2 * 3_600_000, () => reports.length > 0)
  const [{ level, code, message }] = reports as [Report]
  assert.deepEqual([level, code], ['alarm', 'rehearsal-differs'])
  for (const name of ['"table":"tills"', `"key":["${till}"]`, `record ${token}`])
    assert.ok(message.includes(name), `${name}: ${message}`)
  assert.equal(opened.engine.stats().rehearsedAt, undefined)
})
