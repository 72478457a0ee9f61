import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { after, before, test } from 'node:test'
import { HenceError, type Tx } from '../app/index.ts'
import { createEngine } from '../engine/open-engine.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { bundleApp } from './bundle.ts'
import { type Program, sandboxed } from './program.ts'

// Code that is not deterministic gives tables that cannot be derived again; so each way to it that a
// mistake may take must be refused with a word on what to use instead.

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hence-sandbox-'))
})
after(() => rm(folder, { recursive: true }))

let modules = 0
async function moduleOf(source: string): Promise<string> {
  // In a folder of its own, since the name of the file is a part of the bundle.
  const own = join(folder, String(modules++))
  await mkdir(own)
  const path = join(own, 'app.ts')
  await writeFile(path, source)
  return path
}

/** An app with one request, whose derivation is the given code. */
async function sandboxOf(derive: string, top = ''): Promise<Program> {
  const path = await moduleOf(`
    import { app, scopes, reject } from 'hence'
    ${top}
    const [s] = scopes('s')
    const input = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } }
    const r = s.request('r', { input, key: (i: any) => i.key, derive(tx: any, i: any): any { ${derive} } })
    export default app('a', { requests: [r], tables: [] })
  `)
  return sandboxed(await bundleApp(path))
}

function run(program: Program, input: unknown = { key: 'k' }): unknown {
  program.deriving.active = true
  try {
    return program.app.requests.get('r')!.derive({} as Tx, program.realm.parseFrozen(JSON.stringify(input)))
  } finally {
    program.deriving.active = false
  }
}

function refuses(act: () => unknown, what: RegExp): void {
  assert.throws(act, (error) => {
    assert.ok(error instanceof HenceError, String(error))
    assert.equal(error.code, 'impure')
    assert.match(error.message, what)
    assert.match(error.message, /Use /)
    return true
  })
}

const cheats: readonly [string, RegExp][] = [
  ['return Date.now()', /tx\.now/],
  ['return new Date()', /tx\.now/],
  ['return Date()', /tx\.now/],
  ['return new Date(2026, 1, 1).getTime()', /UTC/],
  ['return new Date("2026-01-01T00:00:00").getTime()', /UTC/],
  ['return new Date("Jan 1, 2026").getTime()', /UTC/],
  ['return Math.random()', /tx\.random/],
  ['return process.env.HOME', /input of the request/],
  ['return fetch("http://localhost/")', /request that brings/],
  ['return crypto.randomUUID()', /tx\.uuid/],
  ['return performance.now()', /tx\.now/],
  ['return setTimeout(() => {}, 1)', /synchronous/],
  ['return queueMicrotask(() => {})', /synchronous/],
  ['return new Intl.NumberFormat("de").format(1.5)', /locale/],
  ['return new WeakRef({})', /table/],
]

for (const [cheat, what] of cheats) {
  test(`the sandbox refuses: ${cheat}`, async () => {
    const program = await sandboxOf(cheat)
    refuses(() => run(program), what)
  })
}

for (const cheat of [
  'return new Date(0).getHours()',
  'return new Date(0).toString()',
  'return "a".localeCompare("b")',
  'return (1.5).toLocaleString()',
]) {
  test(`the sandbox refuses: ${cheat}`, async () => {
    const program = await sandboxOf(cheat)
    refuses(() => run(program), /machine to machine/)
  })
}

test('what is deterministic is allowed in the sandbox', async () => {
  const program = await sandboxOf(
    `
    const date = new Date(i.at)
    return [
      date.toISOString(), date.getUTCHours(), Date.UTC(2026, 0, 1), new Date('2026-01-01').getTime(),
      new Date('2026-01-01T00:00:00+01:00').getTime(), date instanceof Date, i.list instanceof Array, Math.max(1, 2),
      typeof i.constructor, structure(new Map([[1, 2]])),
    ]`,
    'function structure(map: Map<number, number>) { return [...map].flat() }',
  )
  const result = run(program, { key: 'k', at: 1000, list: [] })
  assert.equal(
    JSON.stringify(result),
    JSON.stringify([
      '1970-01-01T00:00:01.000Z',
      0,
      1767225600000,
      1767225600000,
      1767222000000,
      true,
      true,
      2,
      'function',
      [1, 2],
    ]),
  )
})

test('libraries may look for what is not there while they load', async () => {
  const program = await sandboxOf(
    'return seen',
    'const seen = [typeof process, typeof window, typeof fetch, typeof navigator].join()',
  )
  assert.equal(run(program), 'undefined,undefined,undefined,undefined')
})

test('a fresh realm remembers nothing', async () => {
  const program = await sandboxOf('return ++count', 'let count = 0')
  assert.equal(run(program), 1)
  assert.equal(run(program), 2)
  assert.equal(run(program.fresh()), 1)
})

test('the same source has the same version, other code another', async () => {
  const one = await sandboxOf('return 1')
  const again = await sandboxOf('return 1 /* the same */')
  const other = await sandboxOf('return 2')
  assert.equal(one.version, again.version)
  assert.notEqual(one.version, other.version)
})

for (const [what, source, message] of [
  [
    'an import of a Node built-in',
    "import fs from 'node:fs'; export default fs",
    /"node:fs" is a Node built-in/,
  ],
  [
    'a built-in without its prefix',
    "import { join } from 'path'; export default join",
    /"path" is a Node built-in/,
  ],
  [
    'an import of the testing entry',
    "import { scenario } from 'hence/testing'; export default scenario",
    /"hence\/testing" touches the world/,
  ],
  ['a module that is not there', "import './nowhere.ts'", /Could not resolve/],
  ['a syntax error', 'export default (', /Unexpected end of file/],
] as const) {
  test(`bundling refuses ${what}`, async () => {
    const path = await moduleOf(source)
    await assert.rejects(bundleApp(path), (error) => {
      assert.ok(error instanceof HenceError && error.code === 'bundle-failed')
      assert.match(error.message, message)
      assert.match(error.message, /app\.ts/)
      return true
    })
  })
}

test('a module that does not exist is named', async () => {
  await assert.rejects(bundleApp('nowhere/app.ts'), {
    code: 'bundle-failed',
    message: /^There is no file .*nowhere\/app\.ts/,
  })
})

for (const [what, source, message] of [
  ['has no app', 'export default 1', /must export `app/],
  ['throws', 'throw new Error("no")', /threw while it was loaded: Error: no/],
  ['rolls dice while it loads', 'export default Math.random()', /Math\.random/],
] as const) {
  test(`loading refuses a module that ${what}`, async () => {
    const loaded = await bundleApp(await moduleOf(source))
    assert.throws(
      () => sandboxed(loaded),
      (error) => {
        assert.ok(error instanceof HenceError && error.code === 'bundle-failed')
        assert.match(error.message, message)
        return true
      },
    )
  })
}

test('what tx gives belongs to the realm of the derivation, in dev mode too', async () => {
  const path = await moduleOf(`
    import { app, scopes } from 'hence'
    const [s] = scopes('s')
    const any = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } }
    const t = s.table('t', { value: any as any, key: ['number'] })
    const c = s.capacity('c', { limit: 5 })
    const r = s.request('r', {
      input: any as any,
      key: (i: any) => i.key,
      derive(tx: any): any {
        const rows = tx.scan(t)
        tx.put(t, rows.length, { list: [rows.length] })
        const seen = [rows, tx.usage(c), tx.get(t, 0), tx.get(t, 0).list]
        for (const row of rows) seen.push(row, row.key, row.value, row.value.list)
        return seen.map((value: any) => value instanceof (Array.isArray(value) ? Array : Object))
      },
    })
    export default app('a', { requests: [r], tables: [t], constraints: [c] })
  `)
  for (const check of [false, true]) {
    const engine = await createEngine({ app: path, data: memoryStorage(), check, report: () => {} })
    for (let i = 0; i < 102; i++) {
      const reply = await engine.submit('r', { key: 'k' }, { requestId: `r${i}` })
      assert.equal(reply.status, 'accepted', JSON.stringify(reply))
      assert.ok(reply.status === 'accepted' && (reply.value as boolean[]).every(Boolean), `record ${i}`)
    }
    await engine.close()
  }
})

test('a violation may name more victims than a value of the app may hold', async () => {
  const path = await moduleOf(`
    import { app, scopes } from 'hence'
    const [s, judge] = scopes('s', 'judge')
    const any = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } }
    const c = judge.capacity('c', { limit: 10_000 })
    const take = s.request('take', {
      input: any as any, key: (i: any) => i.key, claims: () => [c.claim('x')], derive: () => null, compensate() {},
    })
    const cut = judge.request('cut', { input: any as any, key: () => 'x', derive: (tx: any) => tx.setLimit(c, 0) })
    export default app('a', { requests: [take, cut], tables: [], constraints: [c] })
  `)
  const engine = await createEngine({ app: path, data: memoryStorage(), report: () => {} })
  const requests = Array.from({ length: 2_200 }, (_, i) => `${'r'.repeat(250)}${i}`)
  const principal = 'p'.repeat(250)
  await Promise.all(
    requests.map((requestId) =>
      engine.submit('take', { key: requestId.slice(-4) }, { requestId, principal }),
    ),
  )
  const heard: string[] = []
  engine.subscribe((changes) => heard.push(...changes.map(({ table }) => table)))
  assert.equal((await engine.submit('cut', {}, { requestId: 'cut' })).status, 'accepted')
  assert.equal(heard[0], 'hence.violations')
  await engine.close()
})

test('a module may be named by a path from the working directory, and is the same version', async () => {
  const path = await moduleOf(`
    import { app } from 'hence'
    export default app('a', { requests: [], tables: [] })
  `)
  const { hash } = await bundleApp(path)
  assert.equal((await bundleApp(relative(process.cwd(), path))).hash, hash)
})
