import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { HenceError, type Tx } from '../app/index.ts'
import { bundleApp } from './bundle.ts'
import { language } from './language.ts'
import { type Program, sandboxed } from './program.ts'

// The language that app code gets: what is there, what is not, and that nothing can be left behind in it.

let folder: string
before(async () => {
  folder = await mkdtemp(join(import.meta.dirname, '../../node_modules/.language-'))
})
after(() => rm(folder, { recursive: true }))

let modules = 0
/** Loads an app with one request whose derivation has this body; `top` comes before it in the module. */
async function load(derive: string, top = ''): Promise<Program> {
  const path = join(folder, `app${modules++}.ts`)
  await writeFile(
    path,
    `
    import { app, scopes, reject } from 'hence'
    ${top}
    const [s] = scopes('s')
    const input = { '~standard': { version: 1, vendor: 'test', validate: (value: any) => ({ value }) } } as any
    const r = s.request('r', { input, key: (i: any) => i.key, derive(tx: any, i: any): any { ${derive} } })
    export default app('a', { requests: [r], tables: [] })
    `,
  )
  return sandboxed(await bundleApp(path))
}

function run(program: Program, input: object = {}): unknown {
  program.deriving.active = true
  try {
    return program.app.requests.get('r')!.derive({} as Tx, program.realm.parseFrozen(JSON.stringify(input)))
  } finally {
    program.deriving.active = false
  }
}

async function runs(derive: string, top?: string): Promise<unknown> {
  return run(await load(derive, top), { list: [2, 1], at: 1_000 })
}

test('the realm has the members on the list and no others', async () => {
  const found = await runs(`
    const seen = new Set<object>(), names: string[] = []
    const walk = (path: string, value: any) => {
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) return
      seen.add(value)
      for (const name of Reflect.ownKeys(value)) {
        const property = Object.getOwnPropertyDescriptor(value, name)!
        const way = path === '' ? String(name) : path + '.' + String(name)
        names.push(way)
        // Those that a derivation may not use refuse even to be looked at.
        if (path !== '' || property.get === undefined) for (const part of [property.value, property.get]) walk(way, part)
      }
      walk(path + '.__proto__', Object.getPrototypeOf(value))
    }
    walk('', globalThis)
    return names`)
  const names = [...(found as string[])].filter(
    (name) => !/(^|\.)(length|name|prototype|constructor)$|Symbol\(/.test(name),
  )
  for (const path of [
    'Math.sumPrecise',
    'Array.fromAsync',
    'RegExp.escape',
    'RegExp.$1',
    'Error.stackTraceLimit',
  ])
    assert.ok(!names.includes(path), path)
  const globals = names.filter((name) => !name.includes('.'))
  const listed = language.globalThis!.split(' ')
  assert.deepEqual(
    [...globals].filter((name) => !listed.includes(name)).sort(),
    // Those of the realm's own, then those that refuse.
    [
      ...['URL', 'atob', 'btoa', 'console'],
      ...[
        'Atomics',
        'EventSource',
        'FinalizationRegistry',
        'Intl',
        'SharedArrayBuffer',
        'Temporal',
        'WeakRef',
      ],
      ...['WebAssembly', 'WebSocket', 'XMLHttpRequest', 'crypto', 'eval', 'fetch', 'global', 'localStorage'],
      ...[
        'navigator',
        'performance',
        'process',
        'queueMicrotask',
        'require',
        'sessionStorage',
        'setImmediate',
      ],
      ...['setInterval', 'setTimeout'],
    ].sort(),
  )
})

test('everything that the language offers is frozen before the code of the app runs, but for RegExp.prototype', async () => {
  const open = await runs(`
    const seen = new Set<object>(), open: string[] = []
    const walk = (path: string, value: any) => {
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) return
      seen.add(value)
      if (!Object.isFrozen(value)) open.push(path)
      for (const name of Reflect.ownKeys(value)) {
        const property = Object.getOwnPropertyDescriptor(value, name)!
        if (value === globalThis && property.get) continue
        walk(path + '.' + String(name), property.value)
        walk(path + '.' + String(name), property.get)
        walk(path + '.' + String(name), property.set)
      }
      walk(path + '.__proto__', Object.getPrototypeOf(value))
    }
    walk('globalThis', globalThis)
    walk('generator', (function* () {}).prototype)
    walk('iterator', [].values())
    return open.filter((path) => !path.startsWith('generator') && !/^iterator$/.test(path))`)
  assert.deepEqual([...(open as string[])], ['globalThis.RegExp.prototype'])
})

test('code is strict: what would be dropped without a word throws', async () => {
  for (const code of [
    'i.list.push(3); return 1',
    'i.list.sort(); return 1',
    'i.at = 2; return 1',
    'undeclared = 1; return 1',
    'Array.prototype.mine = 1; return 1',
    'globalThis.mine = 1; return 1',
    'Object.prototype.toString = () => "x"; return 1',
    'Math.max = () => 1; return 1',
    '"text".at = 1; return 1',
    'new Function("undeclared = 1")(); return 1',
  ]) {
    await assert.rejects(
      runs(
        code
          .replaceAll('undeclared', '(globalThis as any, undeclared)')
          .replace('(globalThis as any, undeclared) =', 'undeclared ='),
      ),
      (error) => /^(TypeError|ReferenceError):/.test(String(error)),
      code,
    )
  }
  assert.equal(await runs('return (function (this: unknown) { return this })() === undefined'), true)
  assert.equal(await runs('return new Function("return this")() === undefined'), true)
  assert.equal(await runs('return new Function("a", "b", "return a + b")(1, 2)'), 3)
})

test('a property that is inherited from a frozen object can be assigned to', async () => {
  const found = await runs(
    `
    const error: any = new Failed('x')
    const map: any = Object.create(null), object: any = {}
    object.toString = () => 'own'
    object.constructor = 1
    map.valueOf = 2
    return [error.name, error.message, String(error), error instanceof Error, String(object), object.constructor, map.valueOf]`,
    `
    function Failed(this: any, message: string) { this.message = message; this.name = 'Failed' }
    Failed.prototype = Object.create(Error.prototype)
    Failed.prototype.constructor = Failed
    declare const Failed: any`.replace('declare const Failed: any', ''),
  ).catch((error) => String(error))
  assert.deepEqual(JSON.stringify(found), JSON.stringify(['Failed', 'x', 'Failed: x', true, 'own', 1, 2]))
})

const at = Date.UTC(2024, 5, 1, 8, 30)
for (const [text, time] of [
  ['2024-06-01T10:30:00+02:00', at],
  ['2024-06-01T10:30+0200', at],
  ['2024-06-01T08:30Z', at],
  ['2024-06-01T08:30:00.123456Z', at + 123],
  ['2024-06-01', Date.UTC(2024, 5, 1)],
  ['2024-06', Date.UTC(2024, 5, 1)],
  ['2024', Date.UTC(2024, 0, 1)],
  ['+012345-01-01', Date.UTC(12345, 0, 1)],
  ['0099-01-01', -59042995200000],
  ['2024-05-31T24:00Z', Date.UTC(2024, 5, 1)],
  ['2024-02-30', null],
  ['2024-13-01', null],
  ['2024-06-01T25:00Z', null],
  ['-000000-01-01', null],
] as const) {
  test(`a date reads ${text} the same on every machine`, async () => {
    const derived = await runs(`return [new Date('${text}').getTime(), Date.parse('${text}')]`)
    assert.equal(JSON.stringify(derived), JSON.stringify([time, time]))
  })
}

for (const code of [
  "new Date('2024-06-01 10:00')",
  "new Date(['2024-06-01 10:00'])",
  "Date.parse('12345-01-01')",
  "new Date('-2024-01-01')",
  "new Date('Jan 1, 2024')",
  "new Date('2024-06-01T10:00')",
  "'' + new Date(0)",
  'String(new Date(0))',
  'new Date(2024, 1)',
  'new Date(0).getTimezoneOffset()',
]) {
  test(`a derivation may not use the zone of the machine: ${code}`, async () => {
    await assert.rejects(runs(`return ${code}`), (error) => {
      assert.ok(error instanceof HenceError, String(error))
      assert.equal(error.code, 'impure')
      assert.match(error.message, /time zone/)
      return true
    })
  })
}

test('Temporal is refused with what to use', async () => {
  await assert.rejects(
    runs('return Temporal.Now.instant()', 'declare const Temporal: any'),
    /Temporal.*UTC methods/,
  )
})

for (const [what, code] of [
  ['an async function', 'later(); return 1'],
  ['an async arrow function', '(async () => 1)(); return 1'],
  ['one that is caught', 'try { later() } catch {} return 1'],
  ['Promise.resolve', 'Promise.resolve(1); return 1'],
  ['new Promise', 'new Promise(() => {}); return 1'],
  ['an async generator', 'many().next(); return 1'],
] as const) {
  test(`a promise is refused where it is made: ${what}`, async () => {
    const program = await load(
      code,
      'async function later() { throw new Error("lost") }\nasync function* many() { yield 1 }',
    )
    try {
      run(program)
    } catch {}
    const slip = program.deriving.slip
    assert.ok(slip instanceof HenceError && slip.code === 'derivation-asynchronous', String(slip))
  })
}

test('a schema library works, and checks what it checks elsewhere', async () => {
  const derived = await runs(
    `
    const good = { url: 'https://example.com/a?b', base64: 'aGVuY2U=', email: 'a@b.example', n: 1, date: '2024-06-01' }
    const ok = shape.safeParse(good)
    const wrong = Object.keys(good).map((name) => shape.safeParse({ ...good, [name]: '%' }).success)
    let thrown: any
    try { shape.parse(1) } catch (error) { thrown = error }
    return [ok.success, wrong, thrown instanceof z.ZodError, thrown.name, z.toJSONSchema(shape).type]`,
    `import { z } from 'zod'
    const shape = z.object({ url: z.url(), base64: z.base64(), email: z.email(), n: z.int(), date: z.iso.date() })`,
  )
  assert.equal(
    JSON.stringify(derived),
    JSON.stringify([true, [false, false, false, false, false], true, 'ZodError', 'object']),
  )
})

for (const [list, code] of [
  ['tables', "s.table('t', { value: input })"],
  ['reactions', "s.event('e', { data: input, key: () => 'k' })"],
  ['constraints', "s.capacity('c')"],
  ['effects', "effect('f', { input })"],
] as const) {
  test(`a definition that no app lists under ${list} is found when the module is loaded`, async () => {
    const path = join(folder, `unlisted-${list}.ts`)
    await writeFile(
      path,
      `
      import { app, effect, scopes } from 'hence'
      const [s] = scopes('s')
      const input: any = { '~standard': { version: 1, vendor: 'test', validate: (value: any) => ({ value }) } }
      ${code}
      void effect
      export default app('a', { requests: [], tables: [] })
      `,
    )
    const made = await bundleApp(path)
    assert.throws(
      () => sandboxed(made),
      (error) => {
        assert.ok(error instanceof HenceError && error.code === 'unknown-definition', String(error))
        assert.ok(error.message.includes(`\`${list}\``), error.message)
        return true
      },
    )
  })
}

test('a date means the same in every zone, and the realm does not slow the process down', async () => {
  const script = join(folder, 'zone.mjs')
  await writeFile(
    join(folder, 'dates.ts'),
    `
    import { app, scopes } from 'hence'
    const [s] = scopes('s')
    const input: any = { '~standard': { version: 1, vendor: 'test', validate: (value: any) => ({ value }) } }
    const r = s.request('r', { input, key: () => 'k', derive: (tx: any, texts: any): any => texts.map((text: string) => Date.parse(text)) })
    export default app('a', { requests: [r], tables: [] })
  `,
  )
  await writeFile(
    script,
    `
    import { bundleApp } from '${join(import.meta.dirname, 'bundle.ts')}'
    import { sandboxed } from '${join(import.meta.dirname, 'program.ts')}'
    const program = sandboxed(await bundleApp('${join(folder, 'dates.ts')}'))
    program.deriving.active = true
    const times = program.app.requests.get('r').derive({}, ['2024-06-01', '2024-06-01T10:00+02:00', '2024', '2024-02-30'])
    const names = ['ArraySpecies', 'TypedArraySpecies', 'PromiseSpecies', 'ArrayIterator', 'MapIterator', 'SetIterator', 'StringIterator', 'NoElements']
    console.log(JSON.stringify([times, names.filter((name) => !new Function(\`return %\${name}Protector()\`)())]))
  `,
  )
  const run = promisify(execFile)
  const seen = []
  for (const TZ of ['UTC', 'Asia/Tokyo', 'America/New_York']) {
    const flags = ['--allow-natives-syntax', '-C', 'hence-source', script]
    seen.push((await run(process.execPath, flags, { env: { ...process.env, TZ } })).stdout)
  }
  assert.deepEqual(new Set(seen).size, 1)
  // V8 has faster ways to iterate as long as nobody has touched what they rely on, in any realm of the
  // process.
  assert.deepEqual(JSON.parse(seen[0]!)[1], [])
})
