import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { HenceError } from 'hence'
import { backup, verify } from 'hence/offline'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import { noTracing, traced } from './strace.ts'
import { openTill } from './till-engine.ts'

// A process is killed at, or meets an error in, the nth call of a kind that concerns its data directory, in
// each phase of the directory's life. Whatever it had acknowledged must be there after the next start.

/** By call: the errors that it may give. Each call may also be the last of the process. */
const calls: { readonly [call: string]: readonly string[] } = {
  openat: ['EMFILE', 'EIO'],
  pwrite64: ['ENOSPC', 'EIO'],
  write: ['ENOSPC'],
  writev: ['ENOSPC'],
  fdatasync: ['EIO'],
  fsync: ['EIO'],
  rename: ['EIO'],
  unlink: ['EIO'],
  ftruncate: ['EIO'],
  mkdir: ['ENOSPC'],
  pread64: ['EIO'],
  read: ['EIO'],
  statx: ['EIO'],
}
const phases = ['first start', 'append', 'roll and checkpoint', 'recovery', 'promote', 'backup', 'restore']
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
/** Each case takes a second or two, so a run without this variable takes two cases of one phase. */
const wanted = process.env['HENCE_NTH']
const runs = wanted === 'all' ? Number.POSITIVE_INFINITY : Number(wanted ?? 2)

let home: string
/** A directory that was closed, one that a killed process left, a backup, and how to begin each phase. */
const kept = (name: string) => join(home, name)
const beginsWith: { readonly [phase: string]: string | undefined } = {
  append: 'closed',
  'roll and checkpoint': 'closed',
  recovery: 'killed',
  promote: 'closed',
}
const data = () => join(home, 'data')
/** Where `backup` and `restore` read from. */
const other = (phase: string) => kept(phase === 'restore' ? 'backup' : 'closed')

before(async () => {
  if (noTracing) return
  home = await mkdtemp(join(tmpdir(), 'hence-nth-'))
  const engine = await openTill(kept('closed'))
  const pay = (id: string) => engine.submit('pay', { till: id, town: 'a', cents: 1 }, { requestId: id })
  for (let i = 0; i < 40; i++) await pay(`before-${i}`)
  await cp(kept('closed'), kept('killed'), { recursive: true })
  await engine.close()
  await backup({ data: kept('closed'), to: kept('backup') })
})

after(() => home && rm(home, { recursive: true, force: true }))

async function begin(phase: string): Promise<void> {
  await rm(data(), { recursive: true, force: true })
  const from = beginsWith[phase]
  if (from !== undefined) await cp(kept(from), data(), { recursive: true })
}

async function run(phase: string, paths: readonly string[], inject?: string, output?: string) {
  const trace = inject === undefined ? Object.keys(calls).join() : inject.slice(0, inject.indexOf(':'))
  const given = { trace, paths, ...(inject && { inject }), ...(output && { output }) }
  const child = traced('nth-process.ts', [phase, data(), other(phase)], given)
  const [out, problems] = [text(child.stdout!), text(child.stderr!)]
  const [code, signal] = await once(child, 'exit')
  const lines = (await out).split('\n').filter((line) => line.endsWith('}'))
  return { code, signal, lines: lines.map((line) => JSON.parse(line)), problems: await problems }
}

interface Case {
  readonly phase: string
  readonly call: string
  readonly how: string
  readonly n: number
}

/** The paths that a phase uses, and each of its calls. */
async function survey(phase: string): Promise<{ paths: string[]; cases: Case[] }> {
  await begin(phase)
  const output = join(home, 'calls')
  const { code, problems } = await run(phase, [], undefined, output)
  assert.equal(code, 0, problems)
  const counts = new Map<string, number>()
  const paths = new Set<string>()
  for (const line of (await readFile(output, 'utf8')).split('\n')) {
    const [, thread, call] = /^(\d+) +(\w+)\(/.exec(line) ?? []
    const found = [...line.matchAll(/[<"](\/[^>"]*)[>"]/g)].map(([, path]) => path!)
    const own = found.filter((path) => path.startsWith(data()))
    if (call === undefined || own.length === 0) continue
    for (const path of own) paths.add(path)
    counts.set(`${call} ${thread}`, (counts.get(`${call} ${thread}`) ?? 0) + 1)
  }
  const cases: Case[] = []
  for (const [call, errnos] of Object.entries(calls)) {
    const most = Math.max(0, ...[...counts].filter(([key]) => key.startsWith(`${call} `)).map(([, n]) => n))
    for (const how of ['signal=KILL', ...errnos.map((errno) => `error=${errno}`)])
      for (let n = 1; n <= most; n++) cases.push({ phase, call, how, n })
  }
  return { paths: [...paths], cases }
}

/** All that was acknowledged is there, and everything fits together. */
async function check(phase: string, lines: readonly { id?: string; value?: unknown }[], what: string) {
  const isCopy = phase === 'backup' || phase === 'restore'
  // Of a copy that was not begun, or was taken back, there is nothing.
  if (isCopy && (!existsSync(data()) || (await readdir(data())).length === 0)) return
  let engine: Awaited<ReturnType<typeof openTill>>
  try {
    engine = await openTill(data())
  } catch (error) {
    // A copy that did not end may be refused, and never be taken for a whole one.
    assert.ok(isCopy && error instanceof HenceError, `${what}: ${error}`)
    return
  }
  try {
    const again = async (id: string, till: string, value?: unknown) => {
      const reply = await engine.submit('pay', { till, town: 'a', cents: 1 }, { requestId: id })
      assert.ok(reply.replayed, `${what}: ${id} is lost`)
      if (value !== undefined) assert.deepEqual(reply.status === 'accepted' && reply.value, value, what)
    }
    if (beginsWith[phase] !== undefined)
      for (let i = 0; i < 40; i++) await again(`before-${i}`, `before-${i}`)
    else if (isCopy) {
      assert.equal((await engine.scan('tills')).length, 40, what)
    }
    for (const { id, value } of lines) if (id !== undefined) await again(id, `till ${id.length}`, value)
  } finally {
    await engine.close()
  }
  const { flaws } = await verify({ data: data() })
  assert.deepEqual(flaws, [], what)
}

for (const phase of wanted === undefined ? [phases[seed % phases.length]!] : phases)
  test(crashAt('any system call', `${phase}: what was acknowledged is there`), {
    skip: noTracing,
  }, async (t) => {
    const random = randomFrom(seed)
    const { paths, cases } = await survey(phase)
    const drawn = cases.sort(() => random() - 0.5).slice(0, runs)
    const seen = new Map<string, number>()
    for (const { call, how, n } of drawn) {
      const what = `${phase}: ${call}:${how}:when=${n}, seed ${seed}`
      await begin(phase)
      // LMDB's binding may end the process when its own calls fail: state-errnos.test.ts has those that it
      // can bear.
      const some = how === 'signal=KILL' ? paths : paths.filter((path) => !path.endsWith('.mdb'))
      const { code, signal, lines, problems } = await run(phase, some, `${call}:${how}:when=${n}`)
      const isKilled = signal === 'SIGKILL' || code === 137
      assert.ok(how === 'signal=KILL' ? isKilled || code === 0 : code === 0, `${what}: ${signal} ${problems}`)
      const refused = lines.find((line) => line.refused !== undefined)
      assert.notEqual(refused?.refused, 'unexpected-error', `${what}: ${refused?.message}`)
      const end = isKilled ? 'killed' : (refused?.refused ?? 'went on')
      seen.set(end, (seen.get(end) ?? 0) + 1)
      await check(phase, lines, what)
    }
    const counts = JSON.stringify(Object.fromEntries(seen))
    t.diagnostic(`${drawn.length} of ${cases.length} cases, seed ${seed}: ${counts}`)
  })
