import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'

// House rules: who may import whom, what is public, and that every error is explained.

const root = resolve(import.meta.dirname, '../..')
const src = join(root, 'src')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const sources = files.filter((file) => !file.endsWith('.test.ts'))
const textOf = (file: string) => readFileSync(join(src, file), 'utf8')

/**
 * What each part may import: the way of a request, from its arrival downwards. Words that every part
 * shares stand alone at the top of `src`.
 */
const core = [
  'words',
  'app',
  'log',
  'state',
  'constraint',
  'effect',
  'derivation',
  'audit',
  'request',
  'storage',
]
const mayImport: Readonly<Record<string, readonly string[]>> = {
  words: [],
  app: ['words'],
  client: ['words', 'app'],
  log: ['words'],
  state: ['words'],
  constraint: ['words', 'app', 'state'],
  effect: ['words', 'app', 'state'],
  derivation: ['words', 'app', 'log', 'state', 'constraint', 'effect'],
  // It looks at what the others have made, and none of them knows of it.
  audit: ['words', 'app', 'log', 'state', 'effect', 'derivation'],
  request: ['words', 'app', 'log', 'derivation'],
  storage: ['words', 'log', 'state'],
  // The interfaces of the engine.
  engine: [...core, 'reprocessing'],
  reprocessing: ['app', 'derivation', 'engine'],
  // What implements them.
  codes: ['words', 'app', 'derivation', 'storage', 'engine', 'reprocessing'],
  generations: [...core, 'engine', 'reprocessing', 'codes'],
  'running-engine': [...core, 'engine', 'reprocessing', 'codes', 'generations'],
  'open-engine': [...core, 'engine', 'codes', 'running-engine'],
  index: [...core, 'engine', 'reprocessing', 'open-engine'],
  testing: [...core, 'engine'],
  server: [
    'words',
    'app',
    'state',
    'constraint',
    'effect',
    'derivation',
    'audit',
    'request',
    'engine',
    'reprocessing',
  ],
  // It reads JSON that others have written as strictly as the server does.
  postgres: [...core, 'engine', 'server'],
  cli: [...core, 'client', 'engine', 'reprocessing', 'generations', 'open-engine', 'server'],
}
const words = ['failure.ts', 'clock.ts', 'identity.ts', 'report.ts', 'file-lock.ts', 'optional-package.ts']
const partOf = (file: string): string => {
  const [first] = file.split('/') as [string]
  return words.includes(file) ? 'words' : first.replace(/\.ts$/, '')
}

function importsOf(file: string): string[] {
  const found = textOf(file).matchAll(
    /^\s*(?:import|export)\s(?:[^'"]*?\sfrom\s)?'([^']+)'|\bimport\('([^']+)'\)/gm,
  )
  return [...found].map((match) => match[1] ?? match[2]!)
}

test('every part has its place among the imports', () => {
  for (const file of sources)
    assert.ok(mayImport[partOf(file)], `src/${file} stands in a part that has no rule here`)
})

for (const file of sources) {
  test(`src/${file} imports downwards only`, () => {
    const part = partOf(file)
    for (const imported of importsOf(file).filter((name) => name.startsWith('.'))) {
      const target = relative(src, resolve(join(src, dirname(file)), imported))
      assert.ok(files.includes(target), `${imported} is no file`)
      const allowed = partOf(target) === part || mayImport[part]?.includes(partOf(target))
      assert.ok(allowed, `${part} must not import ${partOf(target)} (${imported})`)
    }
  })
}

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
  assert.deepEqual(packagesOf(sources, importsOf), Object.keys(all).sort())
  // Who does not use what an optional peer is for does without it: only types are imported as a file is loaded.
  const loaded = (file: string) =>
    [...textOf(file).matchAll(/^\s*(?:import|export)\s(?!type\s)(?:[^'"]*?\sfrom\s)?'([^']+)'/gm)].map(
      (match) => match[1]!,
    )
  for (const name of packagesOf(sources, loaded)) {
    assert.ok(!(name in peerDependencies), `${name} is a peer, and must be imported where it is used`)
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
    'postgres/index.ts',
    'testing/index.ts',
    // It is started as a process.
    'generations/process.ts',
  ])
  for (const file of sources) {
    for (const name of importsOf(file)) imported.add(relative(src, resolve(join(src, dirname(file)), name)))
  }
  assert.deepEqual(
    sources.filter((file) => !imported.has(file)),
    [],
  )
})

test('the public entries export what they say', async () => {
  const names = async (entry: string) => Object.keys(await import(entry)).sort()
  assert.deepEqual(await names('hence'), [
    'HenceError',
    'app',
    'checkConsistency',
    'checkReceipt',
    'createEngine',
    'effect',
    'handlers',
    'publishToFile',
    'publishToWebhook',
    'readPublicKey',
    'reject',
    'scopes',
    'systemClock',
  ])
  assert.deepEqual(await names('hence/client'), ['HenceError', 'client', 'connect', 'indexedDb', 'memory'])
  assert.deepEqual(await names('hence/client/file'), ['file'])
  assert.deepEqual(await names('hence/server'), ['createKey', 'listKeys', 'revokeKey', 'server'])
  assert.deepEqual(await names('hence/effects'), ['email', 'webhook'])
  assert.deepEqual(await names('hence/postgres'), ['postgresOutbox', 'postgresOutboxSql', 'postgresSink'])
  assert.deepEqual(await names('hence/testing'), [
    'logConformance',
    'memoryLog',
    'memoryStorage',
    'scenario',
    'simulatedDisk',
  ])
})

test('docs/reference/errors.md has an entry for every error code, and none for others', () => {
  const thrown = new Set<string>()
  for (const file of sources) {
    for (const match of textOf(file).matchAll(/new HenceError\(\s*'([^']+)'/g)) thrown.add(match[1]!)
  }
  // Codes of outcomes that are made without an error object.
  for (const code of ['derivation-threw', 'rejected']) thrown.add(code)
  const documented = readFileSync(join(root, 'docs/reference/errors.md'), 'utf8').matchAll(
    /^### `([^`]+)`$/gm,
  )
  assert.deepEqual([...documented].map((match) => match[1]!).sort(), [...thrown].sort())
})
