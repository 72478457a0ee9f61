import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { on, once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkConsistency, checkReceipt, readPublicKey } from 'hence'
import { backup, restore, verify } from 'hence/offline'
import { copyNote } from '../../src/storage/layout.ts'
import { crashAt } from '../crash-points.ts'
import { randomFrom } from '../random.ts'
import type { Answer } from './nth-process.ts'
import { attach, noTracing } from './strace.ts'
import { openTill } from './till-engine.ts'

// A process is killed at, or meets an error in, the nth call of a kind on a kind of file, in each phase of a
// data directory. Whatever it had acknowledged must be there after the next start.

/** By call: the errors that it may give. */
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
  getdents64: ['EIO'],
}
/** A kill at one of these leaves the same files as a kill at the next call that is none. */
const reads = ['pread64', 'read', 'statx', 'getdents64']
const phases = [
  'first start',
  'append',
  'roll and checkpoint',
  'recovery',
  'promote',
  'first audit',
  'audit',
  'backup',
  'restore',
]
const seed = Number(process.env['HENCE_SEED'] ?? randomInt(2 ** 31))
/** `all`: each call on each kind of file, at its first, second and last time. Default: any two calls. */
const wanted = process.env['HENCE_NTH']
const runs = wanted === 'all' ? Number.POSITIVE_INFINITY : Number(wanted ?? 2)
/** Takes only the cases whose names have this in them. */
const only = process.env['HENCE_CASE'] ?? ''

let home: string
/** A directory that was closed, one that a killed process left, a backup, and how to begin each phase. */
const kept = (name: string) => join(home, name)
const beginsWith: { readonly [phase: string]: string | undefined } = {
  append: 'closed',
  'roll and checkpoint': 'closed',
  recovery: 'killed',
  promote: 'closed',
  'first audit': 'closed',
  audit: 'audited',
}
const data = () => join(home, 'data')
/** Where `backup` and `restore` read from. */
const from = () => join(home, 'from')
const isAudited = (phase: string) => phase.endsWith('audit')
const isCopy = (phase: string) => phase === 'backup' || phase === 'restore'

before(async () => {
  if (noTracing) return
  home = await mkdtemp(join(tmpdir(), 'hence-nth-'))
  const engine = await openTill(kept('closed'))
  const pay = (id: string) => engine.submit('pay', { till: id, town: 'a', cents: 1 }, { requestId: id })
  for (let i = 0; i < 40; i++) await pay(`before-${i}`)
  await cp(kept('closed'), kept('killed'), { recursive: true })
  await engine.close()
  await cp(kept('closed'), kept('audited'), { recursive: true })
  await (await openTill(kept('audited'), undefined, { audit: true })).close()
  await writeFile(join(kept('closed'), 'keys.json'), '[]')
  await backup({ data: kept('closed'), to: kept('backup') })
})

after(async () => {
  worker?.process.disconnect()
  if (home) await rm(home, { recursive: true, force: true })
})

async function begin(phase: string): Promise<void> {
  for (const path of [data(), from()]) await rm(path, { recursive: true, force: true })
  const left = beginsWith[phase]
  if (left !== undefined) await cp(kept(left), data(), { recursive: true })
  if (isCopy(phase)) await cp(kept(phase === 'restore' ? 'backup' : 'closed'), from(), { recursive: true })
}

interface Run {
  readonly answers: readonly Answer[]
  /** Undefined: it still runs. */
  readonly end?: number | NodeJS.Signals | undefined
  readonly problems: string
  readonly calls: string
}

/** A process that waits for phases to run, for as long as none of them ends it. */
let worker: { readonly process: ChildProcess; problems: string } | undefined

async function untilOver({ process }: { process: ChildProcess }): Promise<Pick<Run, 'answers' | 'end'>> {
  const answers: Answer[] = []
  const late = setTimeout(() => process.kill('SIGTERM'), 300_000)
  try {
    for await (const [answer] of on(process, 'message', { close: ['disconnect'] })) {
      answers.push(answer)
      if (answer.isOver) return { answers }
    }
  } finally {
    clearTimeout(late)
  }
  worker = undefined
  if (process.exitCode === null && process.signalCode === null) await once(process, 'exit')
  return { answers, end: process.exitCode ?? process.signalCode! }
}

async function run(phase: string, paths: readonly string[], inject?: string): Promise<Run> {
  if (worker === undefined) {
    const process = fork(fileURLToPath(import.meta.resolve('./nth-process.ts')), {
      execArgv: ['-C', 'hence-source'],
      env: { ...globalThis.process.env, UV_THREADPOOL_SIZE: '1' },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    const started = { process, problems: '' }
    process.stderr!.on('data', (data) => {
      started.problems += data
    })
    worker = started
    await untilOver(worker)
  }
  const used = worker
  const output = join(home, 'calls')
  const traced = inject === undefined ? Object.keys(calls) : [inject.slice(0, inject.indexOf(':'))]
  const strace = await attach(used.process.pid!, { calls: traced, paths, inject, output })
  used.process.send([phase, data(), from()])
  const { answers, end } = await untilOver(used)
  // It may wait for ever for a child of a process that was killed.
  await strace.stop(end === undefined ? 'SIGINT' : 'SIGKILL')
  return { answers, end, problems: used.problems, calls: await readFile(output, 'utf8') }
}

interface Case {
  readonly name: string
  readonly phase: string
  readonly paths: readonly string[]
  readonly inject: string
}

/** For example `data/log/pN/N-N.segment`. */
const kindOf = (path: string) => relative(home, path).replaceAll(/[0-9a-f]{16,}|[0-9]+/g, 'N')

async function survey(phase: string): Promise<Case[]> {
  await begin(phase)
  const surveyed = await run(phase, [])
  assert.equal(surveyed.end, undefined, surveyed.problems)
  /** By call and kind of file: which files, and how many calls each thread makes. */
  const sites = new Map<string, { paths: Set<string>; counts: Map<string, number> }>()
  for (const line of surveyed.calls.split('\n')) {
    const [, thread, call] = /^(\d+) +(\w+)\(/.exec(line) ?? []
    const found = [...line.matchAll(/[<"](\/[^>"]*)[>"]/g)].map(([, path]) => path!)
    const own = found.filter((path) => path.startsWith(data()) || path.startsWith(from()))
    if (call === undefined || own.length === 0) continue
    const site = `${call} ${kindOf(own.at(-1)!)}`
    const { paths, counts } = sites.get(site) ?? { paths: new Set(), counts: new Map() }
    for (const path of own) paths.add(path)
    counts.set(thread!, (counts.get(thread!) ?? 0) + 1)
    sites.set(site, { paths, counts })
  }
  const cases: Case[] = []
  for (const [site, { paths, counts }] of sites) {
    const [call, kind] = site.split(' ') as [string, string]
    const most = Math.max(...counts.values())
    const each = wanted === 'all' ? new Set([1, Math.min(2, most), most]) : numbers(most)
    // LMDB's binding may end the process when its own calls fail; state-errnos.test.ts has what it bears.
    const errnos = kind.endsWith('.mdb') ? [] : calls[call]!.map((errno) => `error=${errno}`)
    for (const how of reads.includes(call) ? errnos : ['signal=KILL', ...errnos])
      for (const n of each)
        cases.push({
          phase,
          paths: [...paths],
          inject: `${call}:${how}:when=${n}`,
          name: `${phase}: ${call}:${how}:when=${n} of ${kind}`,
        })
  }
  return cases
}

const numbers = (to: number) => Array.from({ length: to }, (_, i) => i + 1)

/** Everything that was acknowledged is there, and everything fits together. */
async function check(phase: string, answers: Run['answers']): Promise<void> {
  const list = async () => (existsSync(data()) ? await readdir(data(), { recursive: true }) : [])
  // A copy that did not end is no whole one, and the same call goes on.
  if (isCopy(phase) && ((await list()).length === 0 || existsSync(join(data(), copyNote)))) {
    if (existsSync(join(data(), 'log/meta.json')))
      await assert.rejects(openTill(data()), { code: 'copy-unfinished' })
    const again = { data: from(), from: from(), to: data() }
    assert.ok((await (phase === 'backup' ? backup(again) : restore(again))).ok)
  }
  const names = await list()
  const engine = await openTill(data(), undefined, { audit: isAudited(phase) })
  try {
    if (isAudited(phase)) {
      const signed = (await engine.audit.receipt('before-0'))!
      const key = readPublicKey(await readFile(join(data(), 'audit/public-key.pem'), 'utf8'))
      for (const { receipt } of answers) {
        if (receipt === undefined) continue
        checkReceipt(key, receipt)
        const before = receipt.head.partitions.map(({ size }) => size)
        checkConsistency(key, receipt.head, await engine.audit.consistency(before))
      }
      checkReceipt(key, signed)
    }
    const again = async (id: string, till: string, value?: unknown) => {
      const reply = await engine.submit('pay', { till, town: 'a', cents: 1 }, { requestId: id })
      assert.ok(reply.replayed, `${id} is lost`)
      if (value !== undefined) assert.deepEqual(reply.status === 'accepted' && reply.value, value)
    }
    if (beginsWith[phase] !== undefined)
      for (let i = 0; i < 40; i++) await again(`before-${i}`, `before-${i}`)
    else if (isCopy(phase)) {
      assert.equal((await engine.scan('tills')).length, 40)
      for (const name of await readdir(from(), { recursive: true }))
        if (/^(code|keys)/.test(name)) assert.ok(names.includes(name), `${name} was not copied`)
    }
    for (const { id, value } of answers) if (id !== undefined) await again(id, `till ${id.length}`, value)
  } finally {
    await engine.close()
  }
  const { flaws } = await verify({ data: data() })
  assert.deepEqual(flaws, [])
}

/** How it ended. */
async function fateOf({ phase, paths, inject }: Case): Promise<string> {
  await begin(phase)
  const { answers, end, problems, calls } = await run(phase, paths, inject)
  const isKilled = end === 'SIGKILL'
  assert.ok(end === undefined || (isKilled && inject.includes('KILL')), `${end}: ${problems}`)
  const refused = answers.find((answer) => answer.refused !== undefined)?.refused
  assert.ok(refused?.code !== 'unexpected-error', refused?.message ?? '')
  assert.deepEqual(answers.at(-1)?.left ?? [], [], 'no file stays open')
  await check(phase, answers)
  // Threads share the calls otherwise in another run.
  if (!/INJECTED|killed by SIGKILL/.test(calls)) return 'not met'
  if (isKilled) return 'killed'
  const until = answers.some(({ isOpen }) => isOpen) ? 'later' : 'at once'
  return refused ? `${refused.code} ${until}` : 'went on'
}

// A forgotten handle ended the process later, when it was collected.
test('a backup whose copy cannot be synced leaves no file open', { skip: noTracing }, async () => {
  const name = 'backup: fsync:error=EIO:when=1 of data/keys.json'
  const found = (await survey('backup')).find((each) => each.name === name)
  assert.equal(await fateOf(found!), 'data-unusable at once')
})

// Files that a refused start left open: the log and its lock, the hashes, the note of deaths.
for (const [what, phase, call, fate] of [
  ['list its states', 'recovery', 'getdents64:error=EIO:when=1 of data/state', 'data-unusable'],
  ['read the hashes of a tree', 'audit', 'pread64:error=EIO:when=1 of data/audit/tree/pN', 'audit-failed'],
  ['note its folds', 'append', 'openat:error=EMFILE:when=2 of data/state/folding.json', 'data-unusable'],
] as const) {
  test(`a start that cannot ${what} is refused, and leaves no file open`, { skip: noTracing }, async () => {
    const found = (await survey(phase)).find((each) => each.name === `${phase}: ${call}`)
    assert.equal(await fateOf(found!), `${fate} at once`)
  })
}

for (const phase of wanted === undefined ? [phases[seed % phases.length]!] : phases)
  test(crashAt('any system call', `${phase}: what was acknowledged is there`), {
    skip: noTracing || (!only.startsWith(phase) && only.includes(':')),
  }, async (t) => {
    const random = randomFrom(seed)
    const cases = (await survey(phase)).filter(({ name }) => name.includes(only))
    const drawn = cases.sort(() => random() - 0.5).slice(0, runs)
    const seen = new Map<string, number>()
    for (const each of drawn)
      await t.test(`${each.name}, seed ${seed}`, async (t) => {
        const fate = await fateOf(each).catch((error) => {
          // Files that it has left open are not held against the next case.
          worker?.process.kill('SIGKILL')
          worker = undefined
          throw error
        })
        seen.set(fate, (seen.get(fate) ?? 0) + 1)
        t.diagnostic(fate)
      })
    const counts = JSON.stringify(Object.fromEntries(seen))
    t.diagnostic(`${drawn.length} of ${cases.length} cases, seed ${seed}: ${counts}`)
  })
