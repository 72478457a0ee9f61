import assert from 'node:assert/strict'
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type App, createEngine, type Engine } from 'hence'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import { hence } from '../hence-process.ts'

// A directory with a history: a change of code, a promotion with corrections, a rollback. `verify` derives
// each kept generation again, with the code that was in force for each range of the log, and `doctor` reports
// on each.

const root = join(import.meta.dirname, '../..')
let home: string
let data: string
/** The paths of versions of one app, by name. */
let modules: { readonly first: string; readonly later: string; readonly strict: string }
/** The numbers of the promotion and of the rollback. A diff may leave a control record, which has a number too. */
let promotions: readonly number[]
let versions: { readonly [name in 'first' | 'later' | 'strict']: string }

const source = (most: number, fee: number) => `
import { app, effect, reject, scopes } from 'hence'
import { z } from 'zod'
const [account] = scopes('account')
const letter = effect('letter', { input: z.object({ to: z.string(), text: z.string() }) })
const accounts = account.table('accounts', { value: z.object({ cents: z.int() }) })
const paid = account.event('paid', { data: z.object({ to: z.string(), cents: z.int() }), key: (data) => data.to })
const add = (tx, cents) => tx.put(accounts, { cents: (tx.get(accounts)?.cents ?? 0) + cents })
const pay = account.request('pay', {
  input: z.object({ from: z.string(), to: z.string(), cents: z.int() }),
  key: (input) => input.from,
  derive(tx, { to, cents }) {
    if (cents > ${most}) return reject('too-much')
    add(tx, -cents - ${fee})
    tx.emit(paid, { to, cents })
  },
})
export default app('bank', {
  requests: [pay],
  tables: [accounts],
  effects: [letter],
  reactions: [
    account.on(paid, (tx, { cents }) => add(tx, cents)),
    account.correct((tx, correction) => {
      if (correction.kind === 'outcome') tx.effect(letter, { to: tx.key, text: 'sorry' })
    }),
  ],
})
`

const open = (name: keyof typeof modules, options: object = {}): Promise<Engine<App>> =>
  createEngine({ app: modules[name], data, partitions: 3, report: () => {}, ...options })

async function pay(engine: Engine<App>, from: number): Promise<void> {
  await Promise.all(
    Array.from({ length: 40 }, (_, i) => {
      const input = { from: `a${i % 7}`, to: `a${(i * 3) % 11}`, cents: from + i }
      return engine.submit('pay', input as never, { requestId: `r${from + i}` })
    }),
  )
}

async function promote(engine: Engine<App>, requestId: string): Promise<void> {
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId })
}

before(async () => {
  // Within the project, so that the apps can import Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/verify-'))
  data = join(home, 'data')
  const write = async (name: string, text: string) => {
    await writeFile(join(home, name), text)
    return join(home, name)
  }
  modules = {
    first: await write('first.ts', source(1_000, 0)),
    later: await write('later.ts', source(1_000, 1)),
    strict: await write('strict.ts', source(50, 1)),
  }
  let engine = await open('first')
  await pay(engine, 0)
  const first = engine.stats().version
  await engine.close()
  engine = await open('later', { onCodeChange: 'continue' })
  await pay(engine, 40)
  const later = engine.stats().version
  const { version: strict } = await engine.reprocessing.start({ app: modules.strict })
  await promote(engine, 'p1')
  await pay(engine, 80)
  await promote(engine, 'p2')
  await pay(engine, 120)
  versions = { first, later, strict }
  promotions = (await engine.reprocessing.history())
    .filter(({ type }) => type === 'promotion')
    .map(({ number }) => number)
  assert.equal(promotions.length, 2)
  assert.ok(
    (await engine.reprocessing.history()).every((fact) => !('corrections' in fact) || fact.corrections > 0),
  )
  await engine.close()
})
after(() => rm(home, { recursive: true, force: true }))

interface Generation {
  readonly generation: number
  readonly live: boolean
  readonly version: string
  readonly checked: boolean
  readonly records?: number
  readonly reason?: string
}

interface Flaw {
  readonly code: string
  readonly generation?: number
  readonly message: string
}

interface Verified {
  readonly ok: boolean
  readonly records: number
  readonly history: { readonly checked: boolean; readonly generations: readonly Generation[] }
  readonly flaws: readonly Flaw[]
}

async function verify(directory: string): Promise<Verified & { code: number | null }> {
  const { code, stdout, stderr } = await hence(['verify', '--data', directory, '--json'])
  assert.ok(stdout !== '', stderr)
  return { code, ...JSON.parse(stdout) }
}

interface Finding {
  readonly level: string
  readonly code: string
  readonly generation?: number
  readonly message: string
}

async function doctor(directory: string): Promise<{ code: number | null; findings: readonly Finding[] }> {
  const { code, stdout } = await hence(['doctor', '--data', directory, '--json'])
  return { code, findings: JSON.parse(stdout).findings }
}

/** A copy of the directory, for damage. */
async function copied(name: string): Promise<string> {
  await cp(data, join(home, name), { recursive: true })
  return join(home, name)
}

const codesOf = (found: readonly { readonly code: string; readonly generation?: number }[]) =>
  found.map(({ code, generation }) => (generation === undefined ? code : `${code} ${generation}`))

test('each generation is derived again with the code that was in force for each range', async () => {
  const { code, ok, records, history, flaws } = await verify(data)
  assert.deepEqual([code, ok, flaws], [0, true, []])
  assert.deepEqual(
    history.generations.map(({ generation, live, version, checked }) => [generation, live, version, checked]),
    [
      [0, true, versions.later, true],
      [1, false, versions.strict, true],
    ],
  )
  for (const generation of history.generations) assert.equal(generation.records, records)
  const { stdout } = await hence(['verify', '--data', data])
  assert.match(
    stdout,
    /✔ Generation 0, which is live: 1 table, derived again from \d+ records: no difference/,
  )
  assert.match(stdout, /✔ Generation 1: 1 table,/)

  const found = await doctor(data)
  assert.equal(found.code, 0)
  const states = found.findings.filter(({ code }) => code === 'state')
  assert.deepEqual(
    states.map(({ generation }) => generation),
    [0, 1],
  )
  assert.match(states[0]!.message, /Generation 0, which is live/)
  assert.match(states[1]!.message, /Generation 1, which was live and is kept for the way back/)
})

test('verify beside a running process under load: records under way at its end are not reported', async () => {
  const there = data
  data = await copied('running')
  try {
    const engine = await open('later')
    let stopped = false
    const load = (async () => {
      for (let from = 1_000; !stopped; from += 40) await pay(engine, from)
    })()
    for (let i = 0; i < 2; i++) {
      const { code, flaws, history } = await verify(data)
      assert.deepEqual([code, flaws], [0, []])
      assert.ok(history.generations[0]!.checked)
    }
    stopped = true
    await load
    await engine.close()
    assert.ok((await verify(data)).history.generations.every(({ checked }) => checked))
  } finally {
    data = there
  }
})

for (const generation of [0, 1]) {
  test(`a row that was never derived, in generation ${generation}`, async () => {
    const directory = await copied(`row-${generation}`)
    const collections = ['t:accounts']
    const store = await openLmdbStore({ directory: join(directory, `state/${generation}`), collections })
    const [[key, row]] = [...store.range('t:accounts')] as [[string, string]]
    await store.write([['t:accounts', [[key, row.replace(/-?\d+/, '1000000')]]]])
    await store.close()
    const { code, flaws } = await verify(directory)
    assert.deepEqual([code, codesOf(flaws)], [6, [`table-differs ${generation}`]])
  })
}

test('missing code, and code that does not match its name', async () => {
  for (const [name, concerned] of [
    ['first', 0],
    ['strict', 1],
  ] as const) {
    const directory = await copied(`without-${name}`)
    const file = join(directory, 'code', `${versions[name]}.js`)
    const text = await readFile(file, 'utf8')
    await rm(file)
    const missing = await verify(directory)
    assert.deepEqual([missing.code, codesOf(missing.flaws)], [6, [`code-not-kept ${concerned}`]])
    assert.equal(
      missing.history.generations.find(({ generation }) => generation === concerned)?.checked,
      false,
    )
    // A start does not need the code of a generation that is not live.
    const found = await doctor(directory)
    assert.equal(found.code, 0)
    const warnings = found.findings.filter(({ level }) => level === 'warning')
    assert.deepEqual(codesOf(warnings), [`code-not-kept ${concerned}`])

    // The fee of another version, under the old hash.
    await writeFile(file, text.replace('too-much', 'not-much'))
    const changed = await verify(directory)
    assert.equal(changed.code, 6)
    assert.deepEqual(codesOf(changed.flaws), ['code-changed-on-disk', `code-not-kept ${concerned}`])
    const { code, findings } = await doctor(directory)
    assert.equal(code, 0)
    assert.ok(findings.some((each) => each.level === 'warning' && each.code === 'code-changed-on-disk'))
  }
})

test('correction files that are not those of the promotion', async () => {
  const [first, second] = promotions as [number, number]
  const kinds = [(number: number) => `${number}-0.ndjson`, (number: number) => `${number}.json`]
  for (const nameOf of kinds) {
    const directory = await copied('corrections')
    const folder = join(directory, 'promotions')
    const names = promotions.flatMap((number) => kinds.map((kind) => kind(number)))
    assert.deepEqual((await readdir(folder)).sort(), names)
    await copyFile(join(folder, nameOf(first)), join(folder, nameOf(second)))
    const { code, flaws } = await verify(directory)
    assert.deepEqual([code, codesOf(flaws)], [6, ['corrections-changed-on-disk']])
    const { findings } = await doctor(directory)
    assert.ok(findings.some((each) => each.code === 'corrections-changed-on-disk'))
    await rm(directory, { recursive: true })
  }
})

test('unreadable state of the kept generation: a start derives only that again', async () => {
  const there = data
  data = await copied('unreadable')
  try {
    await writeFile(join(data, 'state/1/data.mdb'), 'this is no state')
    const { code, flaws, history } = await verify(data)
    assert.deepEqual([code, codesOf(flaws)], [6, ['state-unreadable 1']])
    assert.deepEqual(
      history.generations.map(({ checked }) => checked),
      [true],
    )
    const { code: examined, findings } = await doctor(data)
    const found = findings.filter((each) => each.code === 'state-unreadable')
    assert.deepEqual([examined, found.map(({ level }) => level)], [0, ['mended']])
    const engine = await open('later')
    assert.equal((await engine.reprocessing.caughtUp()).generation, 1)
    await engine.close()
    const again = await verify(data)
    assert.deepEqual([again.code, again.history.generations.map(({ checked }) => checked)], [0, [true, true]])
  } finally {
    data = there
  }
})

test('the manifest may be lost, or garbage', async () => {
  for (const note of [undefined, 'garbage', '{"live":7}']) {
    const directory = await copied(`note-${note?.length ?? 0}`)
    const file = join(directory, 'state/generations.json')
    if (note === undefined) await rm(file)
    else await writeFile(file, note)
    const { code, history } = await verify(directory)
    assert.deepEqual([code, history.generations.map(({ live }) => live)], [0, [true, false]])
    assert.equal((await doctor(directory)).code, 0)
  }
})

test('explain prints the stored outcome, the corrected one, and who approved it', async () => {
  const directory = await copied('explained')
  // The stricter version was live when the request came; the version that was rolled back to would have
  // accepted it.
  const { code, stdout, stderr } = await hence(['explain', 'r90', '--data', directory])
  assert.equal(code, 0, stderr)
  assert.match(stdout, /├─ rejected too-much/)
  assert.match(stdout, /├─ corrected: it would be accepted/)
  const [, correction] = stdout.split(/correction outcome under "a3" at \d:\d+\n/)
  const lines = correction!.split('\n').map((line) => line.replace(/^[ │├└─]+/, ''))
  assert.equal(lines[0], 'rejected too-much → accepted')
  assert.match(
    lines[1]!,
    new RegExp(
      `^promotion ${promotions[1]}, of generation 0 with version [0-9a-f]{12}, approved \\(p2, 20\\S+Z\\) on diff [0-9a-f]{12}$`,
    ),
  )
  assert.match(lines[2]!, /^effect letter \{"to":"a3","text":"sorry"\}, pending/)
})
