import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createEngine, HenceError, type Report } from 'hence'
import { doctor, type Finding } from 'hence/offline'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { lockHolderOf } from '../../src/storage/directory-lock.ts'
import { crashAt } from '../crash-points.ts'
import { noTracing, traced } from './strace.ts'

const idle = import.meta.resolve('../apps/idle.ts')

// One process writes a log. A second one is refused; a killed one blocks nobody.

let data: string
const holders: ChildProcess[] = []

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), 'hence-lock-'))
})
afterEach(async () => {
  for (const holder of holders.splice(0)) holder.kill('SIGKILL')
  await rm(data, { recursive: true })
})

/** Starts a process that opens the directory; resolves when it has it, or has ended. */
async function holder(
  script = './lock-holder.ts',
): Promise<{ process: ChildProcess; opened: boolean; errors: () => string }> {
  const file = fileURLToPath(import.meta.resolve(script))
  const child = spawn(process.execPath, ['-C', 'hence-source', file, data], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  holders.push(child)
  let errors = ''
  child.stderr.on('data', (text) => {
    errors += text
  })
  const opened = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    once(child, 'close').then(() => false),
  ])
  return { process: child, opened, errors: () => errors }
}

const inUse = (error: unknown) =>
  error instanceof HenceError &&
  error.code === 'data-in-use' &&
  error.advice === 'retry' &&
  error.message.includes(data) &&
  /another process \(\d+ on /.test(error.message)

test('a second process is refused, and the error names the holder', async () => {
  const first = await holder()
  assert.ok(first.opened, first.errors())
  await assert.rejects(createEngine({ app: idle, data }), inUse)
  const second = await holder()
  assert.equal(second.opened, false)
  assert.match(
    second.errors(),
    new RegExp(`in use by another process \\(${first.process.pid} on .*, since 20.*\\)`),
  )
})

test(crashAt('directory held', 'a killed process blocks nobody'), async () => {
  for (let round = 0; round < 5; round++) {
    const killed = await holder()
    assert.ok(killed.opened, killed.errors())
    killed.process.kill('SIGKILL')
    await once(killed.process, 'close')
  }
  const engine = await createEngine({ app: idle, data })
  await engine.close()
})

test('a lock that could not be taken whole is released, and the next try takes it', async () => {
  const unfinished = join(data, 'lock.json.unfinished')
  await mkdir(unfinished)
  await assert.rejects(createEngine({ app: idle, data }), { code: 'data-unusable' })
  await rm(unfinished, { recursive: true })
  await (await createEngine({ app: idle, data })).close()
})

test('a lock that cannot be looked at is not taken for a free one', async () => {
  const lock = join(data, 'state/deriving.lock')
  await mkdir(join(data, 'state'))
  await symlink('deriving.lock', lock)
  const { findings } = await doctor({ data })
  const [{ code, message }] = findings.filter(({ level }) => level === 'wrong') as [Finding]
  assert.equal(code, 'file-unusable')
  await assert.rejects(createEngine({ app: idle, data }), { code, message })
})

test('a lock that can only be opened to read is refused, since SQLite would share it', {
  skip: noTracing,
}, async () => {
  await (await createEngine({ app: idle, data })).close()
  const child = traced('lock-holder.ts', [data], {
    trace: 'openat',
    paths: [join(data, 'lock')],
    inject: 'openat:error=EACCES:when=1',
  })
  holders.push(child)
  const [said] = await Promise.race([once(child.stdout!, 'data'), once(child.stderr!, 'data')])
  assert.match(`${said}`, /lock cannot be used: attempt to write a readonly database/)
})

test('a process that has closed leaves the directory free, and its standard error empty', async () => {
  const first = await holder()
  first.process.stdin!.end()
  await once(first.process, 'close')
  assert.equal(first.errors(), '', 'no warning of the runtime either')
  const engine = await createEngine({ app: idle, data })
  await engine.close()
})

test('the same process is refused a second open, until it has closed the first', async () => {
  const engine = await createEngine({ app: idle, data })
  await assert.rejects(createEngine({ app: idle, data }), inUse)
  await engine.close()
  const again = await createEngine({ app: idle, data })
  await again.close()
})

test(
  crashAt(
    'directory held',
    'a waiting process reports the holder, and gets the directory when that has closed or was killed',
  ),
  async () => {
    for (const end of ['close', 'kill'] as const) {
      const first = await holder()
      assert.ok(first.opened, first.errors())
      const waiting = Promise.withResolvers<Report>()
      const report = (each: Report) => waiting.resolve(each)
      const opening = createEngine({ app: idle, data, wait: true, report })
      const { code, message } = await waiting.promise
      assert.equal(code, 'waiting-for-data')
      assert.match(message, new RegExp(`waiting for pid ${first.process.pid}`))
      if (end === 'kill') first.process.kill('SIGKILL')
      else first.process.stdin!.end()
      await (await opening).close()
    }
  },
)

test('a signal ends the waiting', async () => {
  const engine = await createEngine({ app: idle, data })
  const ended = new AbortController()
  const report = () => ended.abort(new Error('enough'))
  await assert.rejects(createEngine({ app: idle, data, wait: true, signal: ended.signal, report }), /enough/)
  await engine.close()
})

test(crashAt('directory held', 'finding the holder creates no file and keeps nobody out'), async () => {
  assert.equal(await lockHolderOf(data), undefined)
  assert.deepEqual(await readdir(data), [])
  const first = await holder()
  const seen = await lockHolderOf(data)
  assert.ok(typeof seen === 'object' && seen.pid === first.process.pid, JSON.stringify(seen))
  first.process.kill('SIGKILL')
  await once(first.process, 'close')
  assert.equal(await lockHolderOf(data), undefined, 'a killed process holds nothing, whatever it wrote down')

  // Another process looks all the time while this one opens and closes.
  const looker = await holder('./lock-looker.ts')
  assert.ok(looker.opened, looker.errors())
  for (let round = 0; round < 30; round++) await (await createEngine({ app: idle, data })).close()
  assert.equal(looker.process.exitCode, null, looker.errors())
})

/** A process that appends to the log of the directory, line by line. */
class Writer {
  readonly process: ChildProcess
  readonly #lines: AsyncIterator<string>

  /** @param env `PATH` without a `flock` leaves only the POSIX lock */
  constructor(env: Readonly<Record<string, string>> = {}) {
    const file = fileURLToPath(import.meta.resolve('./lock-writer.ts'))
    this.process = spawn(process.execPath, ['-C', 'hence-source', file, data], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: { ...process.env, ...env },
    })
    holders.push(this.process)
    this.#lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]()
  }

  /** The next line that it prints; undefined when it has ended. */
  async line(): Promise<string | undefined> {
    const { done, value } = await this.#lines.next()
    return done ? undefined : value
  }

  ask(order: string): Promise<string | undefined> {
    this.process.stdin!.write(`${order}\n`)
    return this.line()
  }

  async end(): Promise<void> {
    this.process.stdin!.end()
    await once(this.process, 'close')
  }
}

async function records(): Promise<string[]> {
  const log = await openFileLog({ directory: data, report: () => {} })
  const found: string[] = []
  for await (const batch of log.read(0, 0)) found.push(...batch.records.map(String))
  await log.close()
  return found
}

const withoutFlock = { PATH: '/nonexistent' }
const hasFlock = process.platform === 'linux'

test('removing the lock file does not let a second process in', { skip: !hasFlock }, async () => {
  const first = new Writer()
  assert.equal(await first.line(), 'open')
  assert.equal(await first.ask('append a'), 'at 0')
  await rm(join(data, 'lock'))
  assert.equal(await new Writer().line(), undefined)
  assert.notEqual(await lockHolderOf(data), undefined)
  assert.equal(await first.ask('append b'), 'at 1')
  await first.end()
  assert.deepEqual(await records(), ['a', 'b'])
})

test('a process that copies its own directory keeps it', { skip: !hasFlock }, async () => {
  const first = new Writer()
  assert.equal(await first.line(), 'open')
  assert.equal(await first.ask('copy'), 'copied')
  assert.equal(await new Writer().line(), undefined)
  assert.equal(await first.ask('append a'), 'at 0')
  await rm(`${data}-copy`, { recursive: true })
})

test('a process that is stopped keeps its directory', { skip: !hasFlock }, async () => {
  const first = new Writer()
  assert.equal(await first.line(), 'open')
  first.process.kill('SIGSTOP')
  await rm(join(data, 'lock'))
  assert.equal(await new Writer().line(), undefined)
  first.process.kill('SIGCONT')
  assert.equal(await first.ask('append a'), 'at 0')
})

for (const [how, undo] of [
  ['removed', (_: Writer) => rm(join(data, 'lock'))],
  ['lost by a copy', (first: Writer) => first.ask('copy')],
] as const) {
  test(`without flock(1): when its lock is ${how} and another process takes over, the first writes nothing more`, async () => {
    const first = new Writer(withoutFlock)
    assert.equal(await first.line(), 'open')
    assert.equal(await first.ask('append a'), 'at 0')
    await undo(first)
    // It is stopped with an append on its way, as a virtual machine may be.
    first.process.kill('SIGSTOP')
    const late = first.ask('append late')
    const second = new Writer(withoutFlock)
    assert.equal(await second.line(), 'open')
    assert.equal(await second.ask('append b'), 'at 1')
    first.process.kill('SIGCONT')
    assert.equal(await late, 'error data-taken')
    assert.equal(await first.ask('append later'), 'error data-taken')
    assert.equal(await second.ask('append c'), 'at 2')
    // Closing it writes nothing either.
    await first.end()
    assert.equal(await second.ask('append d'), 'at 3')
    await second.end()
    assert.deepEqual(await records(), ['a', 'b', 'c', 'd'])
    await rm(`${data}-copy`, { recursive: true, force: true })
  })
}

test('a directory that was moved away and put back as a copy is not written by its former owner', async () => {
  const first = new Writer()
  assert.equal(await first.line(), 'open')
  assert.equal(await first.ask('append a'), 'at 0')
  const old = `${data}-old`
  await cp(data, old, { recursive: true })
  await rm(data, { recursive: true })
  await cp(old, data, { recursive: true })
  assert.equal(await first.ask('append b'), 'error data-lost')
  const second = new Writer()
  assert.equal(await second.line(), 'open')
  assert.equal(await second.ask('append c'), 'at 1')
  assert.equal(await first.ask('append d'), 'error data-lost')
  await first.end()
  await second.end()
  assert.deepEqual(await records(), ['a', 'c'])
  await rm(old, { recursive: true })
})
