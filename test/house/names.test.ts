import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'

// Exported names are used elsewhere, and a name of a type means one thing in all of `src`.

const root = resolve(import.meta.dirname, '../..')
const files = execFileSync('git', ['ls-files', '*.ts'], { cwd: root, encoding: 'utf8' }).trim().split('\n')
const textOf = (file: string) => readFileSync(join(root, file), 'utf8')
const sources = files.filter((file) => file.startsWith('src/') && !file.endsWith('.test.ts'))

/** Exported names that only a test beside their file uses, and why. */
const forTests: Readonly<Record<string, string>> = {
  'src/audit/scrubber.ts ScrubberOptions': 'the test opens several scrubbers with the same options',
  'src/reprocess/rpc.ts RpcFunctions': 'the test connects functions of its own',
  'src/reprocess/rpc.ts RpcTransport': 'the test connects both ends without a process',
}

/** Names of types that are declared twice, and why. */
const declaredTwice: Readonly<Record<string, string>> = {
  Outbox: 'the engine has one for effects, and a client one for requests',
}

/** The names that a file takes from another of the project: `FILE NAME`, or `FILE *` for all of them. */
function usesOf(file: string): string[] {
  const text = textOf(file)
  const target = (path: string) => relative(root, resolve(root, dirname(file), path))
  const namesIn = (list: string) =>
    list.split(',').flatMap((each) => /^\s*(?:type\s+)?(\w+)/.exec(each)?.[1] ?? [])
  const fixed = text.matchAll(
    /\b(?:import|export)\s+(?:type\s+)?(?:\{([^}]*)\}|\*[\w\s]*)\s*from\s+'(\.[^']+)'/g,
  )
  const dynamic = text.matchAll(/(?:\{([^{}]*)\}\s*=\s*await\s+)?\bimport\('(\.[^']+)'\)/g)
  return [...fixed, ...dynamic].flatMap(([, list, path]) =>
    (list === undefined ? ['*'] : namesIn(list)).map((name) => `${target(path!)} ${name}`),
  )
}

/** The files that use a name: other sources, tests of other rooms, examples, measurements. */
const usedBy = new Map<string, string[]>()
for (const file of files) for (const use of usesOf(file)) usedBy.set(use, [...(usedBy.get(use) ?? []), file])

/** Every name of these files is public. */
const entries = (
  Object.values(JSON.parse(textOf('package.json')).exports) as { 'hence-source': string }[]
).map((entry) => entry['hence-source'].replace('./', ''))

test('exported names are used by another file than their own test', () => {
  const unused: string[] = []
  for (const file of sources.filter((file) => !entries.includes(file))) {
    const isOwnTest = (by: string) => by.endsWith('.test.ts') && dirname(by) === dirname(file)
    for (const [, name] of textOf(file).matchAll(
      /^export (?:abstract |async )?(?:const|let|function\*?|class|interface|type) (\w+)/gm,
    )) {
      const users = [...(usedBy.get(`${file} ${name}`) ?? []), ...(usedBy.get(`${file} *`) ?? [])]
      if (users.every(isOwnTest)) unused.push(`${file} ${name}`)
    }
  }
  assert.deepEqual(unused.sort(), Object.keys(forTests).sort())
})

test('no two files declare a type of the same name', () => {
  const declared = new Map<string, string[]>()
  for (const file of sources) {
    for (const [, name] of textOf(file).matchAll(
      /^(?:export )?(?:abstract )?(?:class|interface|type) (\w+)/gm,
    )) {
      declared.set(name!, [...(declared.get(name!) ?? []), file])
    }
  }
  const twice = [...declared].filter(([, files]) => files.length > 1)
  assert.deepEqual(
    twice.map(([name]) => name),
    Object.keys(declaredTwice),
    twice.map(([name, files]) => `${name}: ${files.join(', ')}`).join('\n'),
  )
})
