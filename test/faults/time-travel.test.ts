import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Generation } from '../../src/generation/generation.ts'
import { findControls } from '../../src/log/controls.ts'
import type { Log } from '../../src/log/log.ts'
import { restore } from '../../src/offline/backup.ts'
import { readCode } from '../../src/offline/code.ts'
import { snapshotData } from '../../src/offline/data-snapshot.ts'
import { logOfSnapshot } from '../../src/offline/log-of-snapshot.ts'
import { replay } from '../../src/processor/replay.ts'
import { sandboxed } from '../../src/sandbox/program.ts'
import { memoryStore } from '../../src/state/memory-store.ts'
import { crashAt } from '../crash-points.ts'
import { hence } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import type { Order, Told } from './engine-process.ts'

// While an engine runs and is killed again and again, its clients record the digest of its tables at some
// positions. A restore to one of these positions must have those tables.

const lives = Number(process.env['HENCE_LIVES'] ?? 3)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const requestsPerLife = 300

/** The digest of the tables when each partition was applied up to these ends. */
interface Mark {
  readonly ends: readonly number[]
  readonly digest: string
}

/** Runs an engine under constant load until it is killed; returns the digests that it reported meanwhile. */
async function live(data: string, life: number, random: () => number): Promise<Mark[]> {
  const below = (n: number) => Math.floor(random() * n)
  const path = fileURLToPath(import.meta.resolve('./engine-process.ts'))
  const engine = fork(path, [data], {
    execArgv: ['-C', 'hence-source'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const marks: Mark[] = []
  const died = once(engine, 'exit')
  const send = (order: Order) => engine.connected && engine.send(order, () => {})
  let sent = 0
  let told = 0
  const wish = () => {
    const till = `till ${below(12)}`
    const id = `wish-${life}-${sent++}`
    if (random() < 0.05) send({ kind: 'submit', id, type: 'empty', input: { till } as never })
    else {
      const input = { till, town: `town ${below(7)}`, cents: 1 + below(200) }
      send({ kind: 'submit', id, type: 'pay', input: input as never })
    }
    if (random() < 0.05) send({ kind: 'mark' })
  }
  engine.on('message', (message: Told) => {
    if (message.kind === 'mark') {
      marks.push({ ends: message.position.split('.').map(Number), digest: message.digest })
    } else if (message.kind === 'ready') {
      send({ kind: 'mark' })
      for (let i = 0; i < 24; i++) wish()
    } else if (message.kind === 'reply') {
      if (++told === requestsPerLife) engine.kill('SIGKILL')
      else wish()
    } else if (message.kind === 'error') {
      engine.kill('SIGKILL')
      assert.fail(`${message.id}: ${message.code}: ${message.message}`)
    }
  })
  await died
  return marks
}

/** The digest of the tables derived from a log up to some ends, with the code that was in force. */
async function digestAt(data: string, log: Log, ends: readonly number[]): Promise<string> {
  const { facts } = await findControls(log)
  const generation = await Generation.open(
    {
      log,
      openStore: async () => memoryStore(),
      programOf: async (version) => sandboxed(await readCode(data, version)),
      checked: false,
    },
    [0],
    async () => sandboxed(await readCode(data, facts[0]!.version)),
  )
  try {
    await replay(log, generation, { ends, pause: () => undefined })
    assert.deepEqual(generation.processor.positions, ends)
    return generation.reader.digest()
  } finally {
    await generation.close()
  }
}

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-travel-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const name = crashAt(
  ['requests in flight', 'code change'],
  `a restore to a position has the tables that were live there, over ${lives} processes (HENCE_SEED=${seed})`,
)
test(name, {
  timeout: 600_000,
}, async (t) => {
  const folder = await folderFor(t)
  const data = join(folder, 'data')
  const random = randomFrom(seed)
  const marks: Mark[] = []
  for (let life = 0; life < lives; life++) marks.push(...(await live(data, life, random)))
  assert.ok(marks.length > lives)
  const log = logOfSnapshot(await snapshotData(data))
  for (const { ends, digest } of marks) {
    assert.equal(await digestAt(data, log, ends), digest, `at ${ends}`)
  }
  t.diagnostic(
    `${marks.length} positions of a log with ${await Promise.all([0, 1, 2].map((p) => log.end(p)))} records`,
  )

  // A directory that was restored to a position ends there.
  const some = marks.filter((_, i) => i % Math.ceil(marks.length / 5) === 0 || i === marks.length - 1)
  for (const [i, { ends, digest }] of some.entries()) {
    const to = join(folder, `then-${i}`)
    const at = ends.flatMap((end, partition) => (end > 0 ? [{ partition, offset: end - 1 }] : []))
    if (at.length === 0) continue
    if (i === 1) {
      const tokens = at.map(({ partition, offset }) => `${partition}:${offset}`).join(',')
      const restored = await hence(['restore', '--from', data, '--to', to, '--at', tokens])
      assert.equal(restored.code, 0, restored.stderr)
    } else {
      const { ends: copied, flaws } = await restore({ from: data, to, at })
      assert.deepEqual(flaws, [])
      assert.deepEqual(copied, ends)
    }
    assert.equal(
      await digestAt(to, logOfSnapshot(await snapshotData(to)), ends),
      digest,
      `restored to ${ends}`,
    )
  }
})
