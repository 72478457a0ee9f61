import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine, type Engine, type HenceError } from 'hence'
import { systemClock } from '../../src/clock.ts'
import type { Report } from '../../src/report.ts'
import { isHeld } from '../../src/storage/file-lock.ts'
import { derivingLock, openDirectory } from '../../src/storage/storage.ts'
import { crashAt } from '../crash-points.ts'
import { hence, started } from '../hence-process.ts'
import { randomFrom } from '../random.ts'
import type { Order, Told } from './deriving-engine-process.ts'
import {
  derivingIn as allDerivingIn,
  canFindProcesses,
  derivingChildrenOf,
  ended,
  isDeriving,
  processorMs,
} from './deriving-processes.ts'
import type wallets from './wallets-old.ts'

// A separate process derives the candidate, and either process may die at any moment without harming the
// other. The worst failures would be two processes that write one state, and a process that cannot be
// stopped; a derivation that has to start again is not as bad.

const kills = Number(process.env['HENCE_KILLS'] ?? 2)
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
const skip = canFindProcesses ? false : 'needs /proc to find processes'
const options = { skip, timeout: 600_000 }
const partitions = 3
const modules = {
  old: import.meta.resolve('./wallets-old.ts'),
  new: import.meta.resolve('./wallets-new.ts'),
  closed: import.meta.resolve('./wallets-closed.ts'),
}

/** The engines in this process, by directory. */
const engines = new Map<string, Engine<typeof wallets>>()
/** Engines in separate processes. */
const processes: Process[] = []

async function place(t: TestContext): Promise<string> {
  // The real path, since /proc shows open files by it.
  const home = await realpath(await mkdtemp(join(tmpdir(), 'hence-deriving-')))
  const directory = join(home, 'data')
  t.after(async () => {
    for (const { child, exit } of processes.splice(0)) {
      child.kill('SIGKILL')
      await exit
    }
    await engines.get(directory)?.close()
    await rm(home, { recursive: true })
  })
  return directory
}

async function open(
  directory: string,
  app = modules.old,
  limits: { readonly derivationMs?: number; readonly report?: (report: Report) => void } = {},
): Promise<Engine<typeof wallets>> {
  const data = await openDirectory({
    directory,
    partitions,
    clock: systemClock,
    report: () => {},
    segmentBytes: 64 * 1024,
  })
  // Few rows a checkpoint, so that one is usually under way when the process dies.
  const options = { checkpointRows: 300, report: () => {}, ...limits }
  const engine = await createEngine<typeof wallets>({ app, data, ...options })
  engines.set(directory, engine)
  return engine
}

async function move(engine: Engine<typeof wallets>, count: number, name = 'r', among = 300): Promise<void> {
  const requests = Array.from({ length: count }, (_, i) => {
    const input = { from: `from ${i % among}`, to: `to ${(i * 7) % among}`, cents: 1 + (i % 1_000) }
    return engine.submit('move', input, { requestId: `${name}${i}` })
  })
  await Promise.all(requests)
}

/** An engine with some requests and a candidate that has been compared. */
async function compared(t: TestContext) {
  const directory = await place(t)
  const engine = await open(directory)
  await move(engine, 1_000)
  await engine.reprocessing.start({ app: modules.new })
  const { sha256 } = await engine.reprocessing.diff()
  return { directory, engine, sha256 }
}

/** The one process that derives in a directory. */
function derivingIn(directory: string): number {
  const [pid, ...others] = allDerivingIn(directory)
  assert.ok(pid !== undefined)
  assert.deepEqual(others, [])
  return pid
}

/** Resolves once a condition holds; checks it in every turn of the event loop. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise(setImmediate)
}

async function kill(engine: Engine<typeof wallets>, pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  await until(async () => (await engine.reprocessing.status())?.state === 'failed')
}

/** Repeats a call until the deriving process survives it. */
async function persistently<T>({ reprocessing }: Engine<typeof wallets>, act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      if ((await reprocessing.status())!.state === 'failed') await reprocessing.resume()
      return await act()
    } catch (error) {
      assert.equal((error as HenceError).code, 'reprocess-failed')
    }
  }
}

const gone = { code: 'reprocess-failed', message: /SIGKILL/ }

test(
  crashAt(
    'candidate deriving',
    `${kills} kills, requests go on, and the candidate continues from its checkpoint (HENCE_SEED=${seed})`,
  ),
  options,
  async (t) => {
    const random = randomFrom(seed)
    const below = (n: number) => Math.floor(random() * n)
    const directory = await place(t)
    const engine = await open(directory)
    const { reprocessing } = engine
    await move(engine, 4_000)
    await reprocessing.start({ app: modules.old }, { again: true, share: 0.2 })
    const reached: number[] = []
    for (let round = 0; round < kills; round++) {
      const { records: begun } = (await reprocessing.status())!
      const goal = begun + 500 + below(1_500)
      // Every third kill comes at once; others may come after it has caught up.
      if (round % 3 > 0)
        await until(async () => {
          const { records, state } = (await reprocessing.status())!
          return records >= goal || state === 'following'
        })
      const waiting = reprocessing.caughtUp().catch((error) => error)
      await kill(engine, derivingIn(directory))
      const { state, error, records } = (await reprocessing.status())!
      assert.deepEqual([state, error?.code], ['failed', 'reprocess-failed'])
      assert.match(error!.message, /generation 1 .*SIGKILL/)
      const told = await waiting
      // It may have caught up before the kill.
      if (told instanceof Error) assert.equal((told as HenceError).code, 'reprocess-failed')
      await assert.rejects(reprocessing.caughtUp(), gone)
      await assert.rejects(reprocessing.diff(), gone)
      await move(engine, 50, `round-${round}-`)
      assert.equal(engine.stats().generation, 0)

      const resumed = await reprocessing.resume()
      assert.notEqual(resumed.state, 'failed')
      assert.equal(resumed.error, undefined)
      if (records > 2_000) assert.ok(resumed.records > 200, `${resumed.records} of ${records} were saved`)
      reached.push(resumed.records)
    }
    t.diagnostic(`resumed at ${reached.join(', ')} records`)
    await reprocessing.start({ app: modules.old }, { again: true, share: 1 })
    assert.equal((await reprocessing.diff()).differences, 0)
  },
)

test(
  crashAt(['candidate paused', 'candidate following'], 'it resumes where it was, and follows again'),
  options,
  async (t) => {
    const { directory, engine, sha256 } = await compared(t)
    const { reprocessing } = engine
    const { records } = await reprocessing.pause()
    await kill(engine, derivingIn(directory))
    await assert.rejects(reprocessing.pause(), gone)
    assert.deepEqual(allDerivingIn(directory), [])
    const resumed = await reprocessing.resume()
    assert.ok(resumed.records >= records)
    await reprocessing.caughtUp()
    await kill(engine, derivingIn(directory))
    await reprocessing.resume()
    assert.equal((await reprocessing.diff()).sha256, sha256)
  },
)

test(crashAt('diff', 'the diff fails with an error, and the next one is right'), options, async (t) => {
  const { directory, engine, sha256 } = await compared(t)
  const { reprocessing } = engine
  for (let round = 0; round < 2; round++) {
    const each = () => {
      process.kill(derivingIn(directory), 'SIGKILL')
      return new Promise(() => {})
    }
    await assert.rejects(reprocessing.diff({ each }), gone)
    // It does not restart by itself.
    assert.equal((await reprocessing.status())?.state, 'failed')
    await reprocessing.resume()
    assert.equal((await reprocessing.diff()).sha256, sha256)
  }
  await move(engine, 1, 'after')
})

test(
  crashAt('promotion', `${kills} promotions happen whole or not at all (HENCE_SEED=${seed})`),
  options,
  async (t) => {
    const random = randomFrom(seed)
    const directory = await place(t)
    const engine = await open(directory)
    const { reprocessing } = engine
    await move(engine, 2_000)
    await reprocessing.start({ app: modules.new })
    const counts = { done: 0, failed: 0 }
    let promotionMs = 20
    for (let round = 0; round < kills; round++) {
      const { sha256: diff } = await persistently(engine, () => reprocessing.diff())
      const { generation } = engine.stats()
      const startedAt = performance.now()
      const promotion = reprocessing.promote({ diff }, { requestId: `promotion-${round}` }).then(
        () => undefined,
        (error) => error,
      )
      await new Promise((resolve) => setTimeout(resolve, random() * promotionMs))
      // Either the candidate's process, or already that of the previous generation.
      for (const pid of derivingChildrenOf(process.pid)) process.kill(pid, 'SIGKILL')
      const error = await promotion
      if (error === undefined) {
        counts.done++
        promotionMs = performance.now() - startedAt
      } else {
        assert.equal(error.code, 'reprocess-failed')
        counts.failed++
        promotionMs *= 1.5
      }
      assert.equal(engine.stats().generation === generation, error !== undefined)
      await move(engine, 50, `round-${round}-`)
    }
    t.diagnostic(JSON.stringify(counts))
    await persistently(engine, () => reprocessing.caughtUp())
    await engine.idle()
    const { generation } = engine.stats()
    const app = generation % 2 === 0 ? modules.old : modules.new
    const digest = await engine.digest()
    await engine.close()
    await rm(join(directory, 'state'), { recursive: true })
    const anew = await open(directory, app)
    assert.deepEqual([anew.stats().generation, await anew.digest()], [generation, digest])
  },
)

test(
  crashAt('candidate deriving', 'the deriving process holds its lock exactly as long as it lives'),
  options,
  async (t) => {
    const directory = await place(t)
    const { reprocessing } = await open(directory)
    await move(engines.get(directory)!, 5_000)
    await reprocessing.start({ app: modules.new })
    // Long enough for the lock to be garbage-collected, if nothing refers to it.
    await reprocessing.diff()
    const lock = join(directory, derivingLock)
    assert.equal(isHeld(lock), true)
    await kill(engines.get(directory)!, derivingIn(directory))
    assert.equal(isHeld(lock), false)
  },
)

/** An engine in a separate process. */
class Process {
  readonly child: ChildProcess
  readonly exit: Promise<readonly [number | null, NodeJS.Signals | null]>
  readonly #told: Told[] = []
  #heard: () => void = () => {}

  constructor(directory: string) {
    this.child = fork(fileURLToPath(import.meta.resolve('./deriving-engine-process.ts')), [directory], {
      execArgv: ['-C', 'hence-source'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.exit = once(this.child, 'exit') as never
    this.child.on('message', (told: Told) => {
      this.#told.push(told)
      this.#heard()
    })
    this.child.on('exit', () => this.#heard())
    processes.push(this)
  }

  get pid(): number {
    return this.child.pid!
  }

  /** Waits for the next message of a kind, and drops those before it. */
  async told<Kind extends Told['kind']>(kind: Kind): Promise<Told & { readonly kind: Kind }> {
    for (;;) {
      const told = this.#told.shift()
      if (told?.kind === kind) return told as never
      if (told !== undefined) continue
      const { exitCode, signalCode } = this.child
      assert.ok(exitCode === null && signalCode === null, `it exited before it sent ${kind}`)
      await new Promise<void>((resolve) => {
        this.#heard = resolve
      })
    }
  }

  send(order: Order): void {
    this.child.send(order)
  }

  /** Resolves to the pid of its deriving process, once there is one. */
  async deriving(): Promise<number> {
    await until(() => derivingChildrenOf(this.pid).length > 0)
    return derivingChildrenOf(this.pid)[0]!
  }
}

/** A directory with this many requests in its log. */
async function filled(t: TestContext, requests: number): Promise<string> {
  const directory = await place(t)
  const engine = await open(directory)
  await move(engine, requests)
  await engine.close()
  return directory
}

test(
  crashAt(
    ['candidate deriving', 'directory held'],
    `${kills} kills while another engine waits, one process derives at a time (HENCE_SEED=${seed})`,
  ),
  options,
  async (t) => {
    const random = randomFrom(seed)
    const below = (n: number) => Math.floor(random() * n)
    const directory = await filled(t, 4_000)
    let one = new Process(directory)
    await one.told('ready')
    one.send({ kind: 'derive', share: 0.2 })
    let { records } = await one.told('derives')
    const seen: string[] = []
    for (let round = 0; round < kills; round++) {
      const how = (['at work', 'starting', 'stopped', 'starting, stopped'] as const)[round % 4]!
      const next = new Process(directory)
      await next.told('waiting')
      if (!how.startsWith('starting')) {
        if (round > 0) records = (await one.told('ready')).records
        one.send({ kind: 'reach', more: below(1_500) })
        records = (await one.told('reached')).records
      }
      const pid = await one.deriving()
      // A stopped process notices nothing until it continues.
      if (how.endsWith('stopped')) process.kill(pid, 'SIGSTOP')
      process.kill(one.pid, 'SIGKILL')
      await one.exit
      if (how.endsWith('stopped')) {
        while (!(await readFile(join(directory, 'lock.json'), 'utf8')).includes(`"pid":${next.pid},`))
          await new Promise(setImmediate)
        // Takes as long as the next engine would need to open if it did not wait.
        await filled(t, 1)
        process.kill(pid, 'SIGCONT')
      }
      let deriving: readonly number[] | undefined
      const opening = next.told('opened').then((told) => {
        deriving = told.deriving
      })
      await until(() => {
        // Check twice, since one may end and another start during the check.
        if (allDerivingIn(directory).length > 1) assert.equal(allDerivingIn(directory).length, 1, how)
        return deriving !== undefined && !isDeriving(pid)
      })
      await opening
      // A process that has just been started may run on until it notices that its engine is gone.
      if (!how.startsWith('starting')) assert.deepEqual(deriving, [], how)
      seen.push(`${how} at ${records}`)
      one = next
    }
    t.diagnostic(seen.join(', '))
    const last = await one.told('ready')
    assert.notEqual(last.state, 'failed')
    assert.ok(records < 3_000 || last.records > 0, 'it started again from the first record')
    const pid = derivingIn(directory)
    process.kill(one.pid, 'SIGKILL')
    await ended(pid)

    const engine = await open(directory)
    const { reprocessing } = engine
    await reprocessing.start({ app: modules.old }, { again: true, share: 1 })
    const { sha256: diff, differences } = await reprocessing.diff()
    assert.equal(differences, 0)
    const { generation } = await reprocessing.promote({ diff }, { requestId: 'promotion' })
    const digest = await engine.digest()
    await engine.close()
    await rm(join(directory, 'state'), { recursive: true })
    const anew = await open(directory)
    assert.deepEqual([anew.stats().generation, await anew.digest()], [generation, digest])
  },
)

for (const [how, state] of [
  ['exit', 'deriving'],
  ['exit', 'following'],
  ['leave', 'deriving'],
  ['leave', 'following'],
  ['leave', 'paused'],
] as const) {
  test(
    crashAt(
      state === 'paused' ? 'candidate paused' : `candidate ${state}`,
      `the deriving process ends with an engine that was not closed (${how})`,
    ),
    options,
    async (t) => {
      const directory = await filled(t, 1_000)
      const one = new Process(directory)
      await one.told('ready')
      one.send({ kind: 'derive', share: state === 'deriving' ? 0.2 : 1 })
      await one.told('derives')
      if (state !== 'deriving') {
        one.send({ kind: state === 'paused' ? 'pause' : 'catch up' })
        assert.equal((await one.told('reached')).state, state)
      }
      const pid = await one.deriving()
      one.send({ kind: how })
      assert.deepEqual(await one.exit, [0, null])
      await ended(pid)
      const { reprocessing } = await open(directory)
      assert.equal((await reprocessing.status())!.generation, 1)
      if (state === 'paused') await reprocessing.resume()
      await reprocessing.caughtUp()
    },
  )
}

test(
  'Ctrl-C reaches both processes: the engine closes gracefully, and the next one continues',
  options,
  async (t) => {
    const directory = await filled(t, 3_000)
    const server = await started([fileURLToPath(modules.old), '--data', directory], { detached: true })
    t.after(() => server.process.kill('SIGKILL'))
    const at = (...args: string[]) =>
      hence(['reprocess', ...args, '--json'], { env: { HENCE_URL: server.url } })
    const slowly = ['--share', '0.1', '--detach', '--data', directory, '--url', server.url]
    const begun = await at('run', fileURLToPath(modules.new), ...slowly)
    assert.equal(begun.code, 0, begun.stderr)
    let records = 0
    while (records === 0) records = JSON.parse((await at('status')).stdout).candidate.records
    const pid = derivingIn(directory)
    // A shell makes a process group of a command, and a terminal signals the whole group.
    process.kill(-server.process.pid!, 'SIGINT')
    assert.equal(await server.ended, 0)
    assert.equal(isDeriving(pid), false)
    assert.doesNotMatch(server.errors, /error|failed|gone/i)

    const { reprocessing } = await open(directory)
    assert.ok((await reprocessing.status())!.records >= records, 'derived records were not saved')
    assert.equal((await reprocessing.caughtUp()).generation, 1)
  },
)

/** Two generations that differ in every row and outcome. */
async function differing(t: TestContext, requests: number) {
  const engine = await open(await place(t))
  await move(engine, requests, 'r', requests)
  await engine.reprocessing.start({ app: modules.closed })
  await engine.reprocessing.caughtUp()
  return engine.reprocessing
}

test('a slow reader gets a long diff whole and in order, and can abort it', options, async (t) => {
  const reprocessing = await differing(t, 34_000)
  const hash = createHash('sha256')
  let lines = 0
  let isTaking = false
  const { differences, sha256 } = await reprocessing.diff({
    async each(line) {
      assert.equal(isTaking, false, 'a line arrived before the previous one was processed')
      isTaking = true
      await new Promise(setImmediate)
      hash.update(`${line}\n`)
      lines++
      isTaking = false
    },
  })
  assert.ok(differences > 100_000, `${differences}`)
  assert.deepEqual([lines, hash.digest('hex')], [differences, sha256])

  const aborting = new AbortController()
  const why = new Error('enough')
  let taken = 0
  const each = async () => {
    if (++taken === 1_000) aborting.abort(why)
    await new Promise(setImmediate)
  }
  await assert.rejects(reprocessing.diff({ each, signal: aborting.signal }), (error) => error === why)
  assert.ok(taken < differences)
  assert.equal((await reprocessing.diff()).sha256, sha256)
})

test('a diff that is aborted while it waits for its turn never runs', options, async (t) => {
  const reprocessing = await differing(t, 100)
  const gate = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const each = () => {
    begun.resolve()
    return gate.promise
  }
  const first = reprocessing.diff({ each })
  await begun.promise
  const aborting = new AbortController()
  const why = new Error('enough')
  const told = assert.rejects(reprocessing.diff({ signal: aborting.signal }), (error) => error === why)
  // Once the candidate has caught up, the diff only waits for its turn.
  await reprocessing.caughtUp()
  await new Promise(setImmediate)
  aborting.abort(why)
  gate.resolve()
  await Promise.all([first, told])
  await reprocessing.diff()
})

test('an error thrown by the reader of a diff is thrown by the diff', options, async (t) => {
  const reprocessing = await differing(t, 100)
  const why = Object.assign(new Error('there is no space left'), { code: 'ENOSPC' })
  const each = () => Promise.reject(why)
  await assert.rejects(reprocessing.diff({ each }), (error) => error === why)
  await reprocessing.diff()
})

for (const harm of ['removed', 'changed'] as const) {
  test(
    `code that was ${harm} while the candidate is paused is an error; once it is restored, resume continues`,
    options,
    async (t) => {
      const directory = await place(t)
      let engine = await open(directory)
      await move(engine, 1_000)
      const { version } = await engine.reprocessing.start({ app: modules.new })
      await engine.reprocessing.caughtUp()
      await engine.reprocessing.pause()
      const file = join(directory, 'code', `${version}.js`)
      const code = await readFile(file)
      const missing = { code: 'code-not-kept' }
      const harmed = () => (harm === 'removed' ? rm(file) : writeFile(file, `${code}// changed`))
      const check = async () => {
        const { reprocessing } = engine
        await assert.rejects(reprocessing.resume(), missing)
        const { state, error, generation } = (await reprocessing.status())!
        assert.deepEqual([state, error?.code, generation], ['failed', 'code-not-kept', 1])
        await assert.rejects(reprocessing.caughtUp(), missing)
        await move(engine, 1, 'meanwhile')
        await writeFile(file, code)
        await reprocessing.resume()
        await reprocessing.caughtUp()
        assert.deepEqual(
          [(await reprocessing.status())!.error, (await reprocessing.status())!.version],
          [undefined, version],
        )
      }
      await kill(engine, derivingIn(directory))
      await harmed()
      await check()
      await engine.reprocessing.pause()
      await engine.close()
      await harmed()
      engine = await open(directory)
      await check()
    },
  )
}

test(
  'a derivation that never returns does not keep the engine from closing, nor the next one from opening',
  options,
  async (t) => {
    const directory = await place(t)
    // No limit ends the loop.
    const engine = await open(directory, modules.old, { derivationMs: 600_000 })
    await move(engine, 10)
    await engine.reprocessing.start({ app: import.meta.resolve('./wallets-endless.ts') })
    const pid = derivingIn(directory)
    // Only its processor time shows that it is in the loop: more than a start takes.
    await until(() => processorMs(pid) > 3_000)
    await move(engine, 10, 'meanwhile')
    await engine.close()
    assert.equal(isDeriving(pid), false)
  },
)

test('a candidate whose code does not end for any record names each, and goes on', options, async (t) => {
  const directory = await place(t)
  const ruled: string[] = []
  const report = ({ code, message }: Report) => void (code === 'derivation-ruled' && ruled.push(message))
  const engine = await open(directory, modules.old, { derivationMs: 50, report })
  await move(engine, 2)
  await engine.reprocessing.start({ app: import.meta.resolve('./wallets-endless.ts') })
  await engine.reprocessing.caughtUp()
  await move(engine, 2, 'meanwhile')
  assert.ok((await engine.reprocessing.diff()).differences > 0)
  assert.equal(ruled.length, 4)
  for (const text of ruled)
    assert.match(text, /^Record \d:\d+ \(.*\) was ruled on: .*generation 1, which is not live/)
  await engine.close()
})
