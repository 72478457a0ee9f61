import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { mayImport, mayNotImport } from './rooms.ts'

// House rules: which room may import which, the public entries, and that every error is documented.

const root = resolve(import.meta.dirname, '../..')
const src = join(root, 'src')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const sources = files.filter((file) => !file.endsWith('.test.ts'))
const textOf = (file: string) => readFileSync(join(src, file), 'utf8')

const shared = [
  'file-failure.ts',
  'assert.ts',
  'failure.ts',
  'clock.ts',
  'identity.ts',
  'report.ts',
  'optional-package.ts',
  'json.ts',
  'keep-trying.ts',
  'module-beside.ts',
  'plain-text.ts',
  'same-message.ts',
  'sha256.ts',
]
const roomOf = (file: string): string => {
  if (shared.includes(file)) return 'shared'
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : 'public'
}

function importsOf(file: string): string[] {
  const found = textOf(file).matchAll(
    /^\s*(?:import|export)\s(?:[^'"]*?\sfrom\s)?'([^']+)'|\bimport\('([^']+)'\)/gm,
  )
  return [...found].map((match) => match[1] ?? match[2]!)
}

test('every room has a rule', () => {
  for (const file of sources) {
    const room = roomOf(file)
    if (room === 'public') assert.equal(file, 'index.ts', `src/${file} is in no room`)
    else assert.ok(mayImport[room], `src/${file} is in a room that has no rule here`)
  }
})

/** The files of `src` that a file imports. */
function neighboursOf(file: string): string[] {
  return importsOf(file)
    .filter((name) => name.startsWith('.'))
    .map((name) => relative(src, resolve(join(src, dirname(file)), name)))
}

for (const file of sources.filter((file) => roomOf(file) !== 'public')) {
  test(`src/${file} imports downwards only`, () => {
    const room = roomOf(file)
    for (const target of neighboursOf(file)) {
      assert.ok(files.includes(target), `${target} is not a file`)
      const allowed = roomOf(target) === room || mayImport[room]!.includes(roomOf(target))
      assert.ok(allowed, `${room} must not import ${roomOf(target)} (${target})`)
      const folder = mayNotImport[room]?.find((folder) => target.startsWith(folder))
      assert.equal(folder, undefined, `${room} must not import ${folder} (${target})`)
    }
  })
}

test('app imports nothing but failure.ts', () => {
  for (const file of sources.filter((file) => roomOf(file) === 'app')) {
    const outside = neighboursOf(file).filter((target) => roomOf(target) !== 'app')
    assert.ok(
      outside.every((target) => target === 'failure.ts'),
      `src/${file} imports ${outside}`,
    )
  }
})

/** The groups of nodes that reach each other, largest first (Tarjan, 1972). */
function circlesOf(nodes: readonly string[], next: (node: string) => Iterable<string>): string[][] {
  const order = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const circles: string[][] = []
  const visit = (node: string): void => {
    order.set(node, order.size)
    low.set(node, order.get(node)!)
    stack.push(node)
    for (const other of next(node)) {
      if (!order.has(other)) visit(other)
      if (stack.includes(other)) low.set(node, Math.min(low.get(node)!, low.get(other)!))
    }
    if (low.get(node) !== order.get(node)) return
    const circle = stack.splice(stack.indexOf(node))
    if (circle.length > 1) circles.push(circle.sort())
  }
  for (const node of nodes) if (!order.has(node)) visit(node)
  return circles
}

test('no files import each other in a circle', () => {
  assert.deepEqual(
    circlesOf(sources, (file) => neighboursOf(file)),
    [],
  )
})

test('no folders import each other in a circle', () => {
  const rooms = new Map<string, Set<string>>()
  for (const file of sources) {
    const room = roomOf(file)
    if (!rooms.has(room)) rooms.set(room, new Set())
    for (const target of neighboursOf(file)) if (roomOf(target) !== room) rooms.get(room)!.add(roomOf(target))
  }
  assert.deepEqual(
    circlesOf([...rooms.keys()], (room) => rooms.get(room) ?? []),
    [],
  )
})

/** Packages that sources import: their names. */
function packagesOf(files: readonly string[], importsIn: (file: string) => string[]): string[] {
  const imported = new Set<string>()
  for (const name of files.flatMap(importsIn)) {
    if (name.startsWith('.') || name.startsWith('node:')) continue
    imported.add(name.split('/', name.startsWith('@') ? 2 : 1).join('/'))
  }
  return [...imported].sort()
}

test('packages that the sources import are dependencies, and all of those are imported', () => {
  const { dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  )
  const all = { ...dependencies, ...peerDependencies }
  // The app of a suite of tests is one like a user's.
  const own = sources.filter((file) => file !== 'testing/failover-app.ts')
  assert.deepEqual(packagesOf(own, importsOf), Object.keys(all).sort())
  // An optional peer may be missing, so only its types may be imported when a file is loaded.
  const loaded = (file: string) =>
    [...textOf(file).matchAll(/^\s*(?:import|export)\s(?!type\s)(?:[^'"]*?\sfrom\s)?'([^']+)'/gm)].map(
      (match) => match[1]!,
    )
  for (const name of packagesOf(sources, loaded)) {
    assert.ok(!(name in peerDependencies), `${name} is a peer: import it where it is used`)
  }
  assert.deepEqual(Object.keys(peerDependenciesMeta).sort(), Object.keys(peerDependencies).sort())
})

test('no file is imported by nothing', () => {
  const imported = new Set([
    'cli/main.ts',
    'index.ts',
    'client/index.ts',
    'client/file.ts',
    'server/index.ts',
    'effect/index.ts',
    'offline/index.ts',
    'kafka/index.ts',
    'postgres/index.ts',
    'testing/index.ts',
    // Started as processes and as a thread.
    'reprocess/child-process.ts',
    'generation/apart-process.ts',
    'engine/rehearsal-process.ts',
    'state/check-thread.ts',
  ])
  for (const file of sources) {
    for (const name of importsOf(file)) imported.add(relative(src, resolve(join(src, dirname(file)), name)))
  }
  assert.deepEqual(
    sources.filter((file) => !imported.has(file)),
    [],
  )
})

test('the public entries export exactly these names', async () => {
  const names = async (entry: string) => Object.keys(await import(entry)).sort()
  assert.deepEqual(await names('hence'), [
    'HenceError',
    'app',
    'bundleApp',
    'checkConsistency',
    'checkReceipt',
    'createEngine',
    'effect',
    'handlers',
    'publishToFile',
    'readPublicKey',
    'reject',
    'scopes',
    'source',
    'systemClock',
    'viewsOf',
  ])
  assert.deepEqual(await names('hence/client'), ['HenceError', 'client', 'connect', 'indexedDb', 'memory'])
  assert.deepEqual(await names('hence/client/file'), ['file'])
  assert.deepEqual(await names('hence/server'), [
    'StartingServer',
    'createKey',
    'listKeys',
    'revokeKey',
    'server',
  ])
  assert.deepEqual(await names('hence/effects'), ['email', 'webhook'])
  assert.deepEqual(await names('hence/offline'), [
    'backup',
    'check',
    'copyIn',
    'copyLogTo',
    'doctor',
    'dryRun',
    'exportLog',
    'openSql',
    'refresh',
    'repair',
    'restore',
    'rule',
    'verify',
  ])
  assert.deepEqual(await names('hence/kafka'), ['kafkaLog', 'kafkaSink', 'kafkaSource'])
  assert.deepEqual(await names('hence/postgres'), [
    'migratePostgresLog',
    'postgresLog',
    'postgresLogSql',
    'postgresOutbox',
    'postgresOutboxSql',
    'postgresSink',
    'postgresSource',
  ])
  assert.deepEqual(await names('hence/testing'), [
    'CarrierStore',
    'carrierConformance',
    'carrierDuel',
    'carrierFailover',
    'memoryCarrier',
    'memoryLog',
    'memoryStorage',
    'scenario',
    'simulate',
  ])
})

test('docs/reference/errors.md has an entry for every error code, and none for others', () => {
  const thrown = new Set<string>()
  for (const file of sources) {
    for (const match of textOf(file).matchAll(/(?:new Hence|retry|change|operator)Error\(\s*'([^']+)'/g))
      thrown.add(match[1]!)
  }
  // Codes of outcomes that are built without an error object.
  const rulings = [
    'derivation-too-long',
    'derivation-too-deep',
    'derivation-too-large',
    'derivation-ruled-out',
  ]
  for (const code of ['derivation-threw', 'rejected', ...rulings]) thrown.add(code)
  const documented = readFileSync(join(root, 'docs/reference/errors.md'), 'utf8').matchAll(
    /^### `([^`]+)`$/gm,
  )
  assert.deepEqual([...documented].map((match) => match[1]!).sort(), [...thrown].sort())
})
