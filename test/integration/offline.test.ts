import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createEngine, HenceError } from 'hence'
import {
  backup,
  check,
  doctor,
  dryRun,
  exportLog,
  type OfflineProgress,
  repair,
  restore,
  verify,
} from 'hence/offline'

// An embedder has what the command line has: the functions of `hence/offline`, on a real directory.

const root = join(import.meta.dirname, '../..')
const requests = 40
let home: string
let data: string
let modules: { readonly old: string; readonly fee: string; readonly closed: string }

const source = (fee: number, request: string) => `
import { app, scopes } from 'hence'
import { z } from 'zod'
const [account] = scopes('account')
const accounts = account.table('accounts', { value: z.object({ cents: z.int() }) })
const paid = account.event('paid', { data: z.object({ to: z.string(), cents: z.int() }), key: (data) => data.to })
const add = (tx, cents) => tx.put(accounts, { cents: (tx.get(accounts)?.cents ?? 0) + cents })
const pay = account.request('${request}', {
  input: z.object({ from: z.string(), to: z.string(), cents: z.int() }),
  key: (input) => input.from,
  derive(tx, { to, cents }) {
    add(tx, -cents - ${fee})
    tx.emit(paid, { to, cents })
  },
})
export default app('bank', {
  requests: [pay],
  tables: [accounts],
  reactions: [account.on(paid, (tx, { cents }) => add(tx, cents))],
})
`

before(async () => {
  // Within the project, so that the apps find Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/offline-'))
  data = join(home, 'data')
  const write = async (name: string, text: string) => {
    await writeFile(join(home, name), text)
    return join(home, name)
  }
  modules = {
    old: await write('old.ts', source(0, 'pay')),
    fee: await write('fee.ts', source(3, 'pay')),
    closed: await write('closed.ts', source(0, 'transfer')),
  }
  const engine = await start(data)
  for (let i = 0; i < requests; i++) {
    const input = { from: `a${i % 7}`, to: `a${(i * 3) % 11}`, cents: i }
    await engine.submit('pay', input as never, { requestId: `r${i}` })
  }
  await engine.close()
})

after(() => rm(home, { recursive: true, force: true }))

async function start(directory: string) {
  return createEngine({ app: modules.old, data: directory, partitions: 2, report: () => {} })
}

async function copyOf(name: string): Promise<string> {
  await cp(data, join(home, name), { recursive: true })
  return join(home, name)
}

/** Changes a byte of the record of a request. */
async function damage(directory: string, requestId: string): Promise<void> {
  for (const partition of ['p0000', 'p0001']) {
    const folder = join(directory, 'log', partition)
    const [name] = (await readdir(folder)).filter((name) => name.endsWith('.segment'))
    const at = (await readFile(join(folder, name!))).indexOf(requestId)
    if (at < 0) continue
    const file = await open(join(folder, name!), 'r+')
    await file.write('R', at)
    await file.close()
    return
  }
  assert.fail(`${requestId} is in no segment`)
}

/** Records progress, and checks that each step only advances. */
function recorder() {
  const last = new Map<string, OfflineProgress>()
  return {
    last,
    progress: (next: OfflineProgress) => {
      assert.ok(next.done >= (last.get(next.step)?.done ?? 0))
      last.set(next.step, next)
    },
  }
}

test('verify, doctor and exportLog agree on a directory in order, and report progress', async () => {
  const { last, progress } = recorder()
  const verified = await verify({ data, progress })
  assert.deepEqual([verified.ok, verified.flaws, verified.history.checked], [true, [], true])
  assert.deepEqual(last.get('verify'), {
    step: 'verify',
    done: verified.records,
    total: verified.records,
    unit: 'records',
  })
  assert.ok(last.get('derive')!.done >= verified.records)
  assert.equal((await verify({ data, history: false })).history.checked, false)

  const diagnosis = await doctor({ data })
  assert.deepEqual([diagnosis.ok, diagnosis.inUse, diagnosis.repairs], [true, false, []])
  const lines: string[] = []
  for await (const line of exportLog({ data })) lines.push(line)
  assert.equal(lines.length, verified.records)
  assert.equal(lines.filter((line) => JSON.parse(line).kind === 'request').length, requests)
  await assert.rejects(exportLog({ data, partition: 2 }).next(), { code: 'partition-unknown' })
})

test('a backup beside an engine is whole, and restores to a record', async () => {
  const engine = await start(data)
  const { last, progress } = recorder()
  const to = join(home, 'backup')
  const copied = await backup({ data, to, progress })
  await engine.close()
  assert.deepEqual([copied.ok, copied.directory], [true, to])
  assert.equal(last.get('copy')!.done, last.get('copy')!.total)
  assert.equal(last.get('verify')!.done, copied.records)
  await assert.rejects(backup({ data, to }), { code: 'folder-not-empty' })

  const at = [{ partition: 0, offset: 5 }]
  const restored = await restore({ from: to, to: join(home, 'restored'), at })
  assert.deepEqual([restored.ok, restored.ends[0]], [true, 6])
  const nowhere = [{ partition: 0, offset: 5_000 }]
  await assert.rejects(restore({ from: to, to: join(home, 'nowhere'), at: nowhere }), {
    code: 'token-unknown',
  })
  await assert.rejects(verify({ data: join(home, 'nowhere') }), { code: 'no-log' })
})

test('check and dryRun: what new code can read, and what it derives differently', async () => {
  const module = modules.fee
  const read = await check({ data, app: module })
  assert.deepEqual([read.unreadable, read.isPart], [[], false])
  const part = await check({ data, app: module, records: 10 })
  assert.ok(part.isPart && part.records < read.records)

  const lines: string[] = []
  const { last, progress } = recorder()
  const ran = await dryRun({ data, app: module, samples: 1, each: (line) => lines.push(line), progress })
  assert.ok(ran.diff!.differences > 0)
  assert.equal(lines.length, ran.diff!.differences)
  assert.deepEqual([last.get('derive')!.done, ran.failures], [2 * ran.records, 0])
  assert.equal((await dryRun({ data, app: modules.old })).diff!.differences, 0)

  const closed = await dryRun({ data, app: modules.closed })
  assert.deepEqual([closed.unreadable.map(({ type }) => type), closed.diff], [['pay'], undefined])
})

test('a damaged file: a flaw, a finding and a repair', async () => {
  const directory = await copyOf('damaged')
  await damage(directory, 'r30')
  const { ok, flaws, history } = await verify({ data: directory })
  assert.deepEqual([ok, flaws.map(({ code }) => code), history.checked], [false, ['log-damaged'], false])
  const to = join(home, 'damaged-copy')
  await assert.rejects(backup({ data: directory, to }), { code: 'log-damaged' })
  assert.deepEqual(await readdir(to), [], 'a part of a copy does not stay')
  await assert.rejects(dryRun({ data: directory, app: modules.old }), { code: 'log-damaged' })

  const { findings, repairs } = await doctor({ data: directory })
  const found = findings.find(({ code }) => code === 'log-damaged')!
  assert.deepEqual([found.level, found.file], ['wrong', flaws[0]!.file])
  assert.deepEqual(
    repairs.map(({ kind }) => kind),
    ['end-partition', 'set-state-aside'],
  )
  const engine = await start(await copyOf('in-use'))
  await assert.rejects(repair({ data: join(home, 'in-use'), repairs }), { code: 'data-in-use' })
  await engine.close()
  // The files of this directory are whole: the repair must not cut them.
  await assert.rejects(repair({ data: join(home, 'in-use'), repairs }), { code: 'repair-outdated' })
  assert.equal((await verify({ data: join(home, 'in-use') })).ok, true)

  const reports: string[] = []
  const after = await repair({ data: directory, repairs, report: ({ code }) => reports.push(code) })
  assert.deepEqual(reports, ['partition-ended', 'state-set-aside'])
  assert.deepEqual([after.ok, after.repairs], [true, []])
  assert.ok((await readdir(directory)).includes('state.aside-1'))
  assert.equal((await readdir(join(directory, 'log/damaged'))).length, 1)
})

test('an aborted signal stops the work, which leaves nothing behind', async (t) => {
  const temporary = await mkdtemp(join(tmpdir(), 'hence-offline-'))
  const { TMPDIR } = process.env
  process.env.TMPDIR = temporary
  t.after(async () => {
    if (TMPDIR === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = TMPDIR
    await rm(temporary, { recursive: true })
  })
  // Aborts as soon as a step has begun.
  const stopAt = (step: OfflineProgress['step']) => {
    const controller = new AbortController()
    const reason = new HenceError('data-in-use', 'retry', `stopped at ${step}`)
    return {
      signal: controller.signal,
      progress: (progress: OfflineProgress) => {
        if (progress.step === step) controller.abort(reason)
      },
      reason: (error: unknown) => error === reason,
    }
  }
  const works: Record<string, [OfflineProgress['step'][], (work: object) => Promise<unknown>]> = {
    verify: [['verify', 'derive'], (work) => verify({ data, ...work })],
    backup: [['copy', 'verify'], (work) => backup({ data, to: join(home, 'stopped'), ...work })],
    dryRun: [['read', 'derive'], (work) => dryRun({ data, app: modules.fee, ...work })],
    check: [['read'], (work) => check({ data, app: modules.fee, ...work })],
    doctor: [['read'], (work) => doctor({ data, ...work })],
  }
  for (const [name, [steps, work]] of Object.entries(works)) {
    for (const step of steps) {
      const { signal, progress, reason } = stopAt(step)
      await assert.rejects(work({ signal, progress }), reason, `${name}, ${step}`)
      assert.deepEqual(await readdir(temporary), [], `${name}, ${step}`)
    }
  }
  assert.deepEqual(await readdir(join(home, 'stopped')), [])
  assert.equal((await verify({ data })).ok, true)
})
