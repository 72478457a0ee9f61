import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import {
  access,
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { type Ended, hence, Running, started } from '../hence-process.ts'

// Every command of `hence`, as a process, on real data.

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
let home: string
let app: string

before(async () => {
  // Within the project, so that the app can import Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/cli-'))
  app = join(home, 'shop.ts')
  await copyFile(join(root, 'template/shop/shop.ts'), app)
})
after(() => rm(home, { recursive: true, force: true }))

const mugs = JSON.stringify({ product: 'mug', title: 'A mug', quantity: 3 })
const orderOf = (order: string, quantity: number, product = 'mug') =>
  JSON.stringify({ order, product, quantity, customer: 'ada' })

function json(ended: Ended): unknown[] {
  return ended.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

/** A data directory with three requests, one of them rejected, written by a running server. */
async function filled(name: string, partitions = 1): Promise<string> {
  const data = join(home, name)
  const server = await started([app, '--data', data, '--partitions', String(partitions)])
  const env = { HENCE_URL: server.url }
  try {
    for (const [type, input, id] of [
      ['stock-product', mugs, 's1'],
      ['place-order', orderOf('o1', 2), 'r1'],
      ['place-order', orderOf('o2', 2), 'r2'],
    ] as const) {
      await hence(['submit', type, input, '--id', id], { env })
    }
  } finally {
    await server.stop()
  }
  return data
}

test('start, submit, explain, table and tail: one request id from the command line to the tables', async (t) => {
  const data = join(home, 'one')
  const server = await started([app, '--data', data])
  t.after(() => server.stop())
  const env = { HENCE_URL: server.url }
  const tail = new Running(['tail', 'orders', '--prefix', 'mug', '--json'], { env })
  t.after(() => tail.stop())
  await tail.error(/"following"/)

  const stocked = await hence(['submit', 'stock-product', mugs, '--json'], { env })
  assert.equal(stocked.code, 0, stocked.stderr)
  const [reply] = json(stocked) as [{ requestId: string; status: string; value: unknown; token: string }]
  assert.deepEqual(reply.value, { stock: 3 })
  assert.match(reply.requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-7/, 'a new id is a UUID of version 7')
  assert.deepEqual(JSON.parse(stocked.stderr), { requestId: reply.requestId }, 'printed before it is sent')

  const first = await hence(['submit', 'place-order', '-', '--id', 'r1'], { env, input: orderOf('o1', 2) })
  assert.equal(first.code, 0, first.stderr)
  assert.match(first.stdout, /^accepted \{"left":1\} at 0:2\n$/)
  const again = await hence(['submit', 'place-order', orderOf('o1', 2), '--id', 'r1', '--json'], { env })
  assert.equal((json(again)[0] as { replayed: boolean }).replayed, true)

  const rejected = await hence(['submit', 'place-order', orderOf('o2', 2), '--id', 'r2'], { env })
  assert.deepEqual([rejected.code, rejected.stdout], [3, 'rejected out-of-stock {"stock":1} at 0:3\n'])
  const reused = await hence(['submit', 'place-order', orderOf('o3', 1), '--id', 'r1', '--json'], { env })
  assert.equal(reused.code, 1)
  assert.equal(JSON.parse(reused.stderr).error.code, 'request-id-reused')

  const told = await hence(['explain', 'r1'], { env })
  assert.equal(told.code, 0, told.stderr)
  assert.match(
    told.stdout,
    /^place-order \{"order":"o1".*r1, .*at 0:2\n├─ accepted \{"left":1\}\n└─ request place-order/,
  )
  assert.match(
    told.stdout,
    /~ products \["mug"\] \{"title":"A mug","stock":3\} → \{"title":"A mug","stock":1\}/,
  )
  assert.match(told.stdout, /\+ orders \["mug","o1"\]/)
  const [story] = json(await hence(['explain', 'r2', '--json'], { env })) as [{ outcome: { reason: string } }]
  assert.equal(story.outcome.reason, 'out-of-stock')
  assert.equal((await hence(['explain', 'nobody'], { env })).code, 4)

  const row = await hence(['table', 'get', 'products', 'mug', '--json'], { env })
  assert.deepEqual(json(row), [{ key: ['mug'], value: { title: 'A mug', stock: 1 } }])
  assert.equal((await hence(['table', 'get', 'products', 'cup'], { env })).code, 4)
  const before = await hence(['table', 'get', 'products', 'mug', '--at', '0:1', '--json'], { env })
  assert.deepEqual(json(before), [{ key: ['mug'], value: { title: 'A mug', stock: 3 } }])
  const long = await hence(['table', 'scan', 'products', '--at', '2020-01-31T12:00:00Z', '--json'], { env })
  assert.deepEqual([long.code, json(long)], [0, []])
  const scanned = await hence(
    ['table', 'scan', 'orders', '--index', 'byCustomer', '--prefix', 'ada', '--json'],
    { env },
  )
  assert.deepEqual(
    (json(scanned) as { key: unknown }[]).map(({ key }) => key),
    [['mug', 'o1']],
  )
  const none = await hence(['table', 'scan', 'orders', '--prefix', '["mug"]', '--from', '["o2"]', '--json'], {
    env,
  })
  assert.deepEqual([none.code, json(none)], [0, []])

  const seen = JSON.parse(await tail.line(/"orders"/))
  assert.deepEqual(seen.key, ['mug', 'o1'])
  assert.equal(await tail.stop('SIGINT'), 0)
})

test('an unreachable server: try again (5); a wrong command line: usage (2); neither creates anything', async () => {
  const env = { HENCE_URL: 'http://127.0.0.1:9' }
  const unreachable = await hence(['table', 'get', 'products', 'mug'], { env })
  assert.deepEqual([unreachable.code, unreachable.stdout], [5, ''])
  assert.match(unreachable.stderr, /^server-unreachable: /)
  for (const args of [
    ['start'],
    ['sumbit', 'x'],
    ['submit', 'place-order', '{'],
    ['log', 'cat', '--from', '1', '--data', home],
    ['table', 'scan', 'orders', '--limit', '-1'],
  ]) {
    const { code, stdout, stderr } = await hence(args, { env })
    assert.deepEqual([code, stdout], [2, ''], args.join(' '))
    assert.match(stderr, /error: /)
  }
  const unknown = await hence(['log', 'cat', '--data', join(home, 'nowhere')])
  assert.equal(unknown.code, 1)
  assert.match(unknown.stderr, /^no-log: /)
  await assert.rejects(stat(join(home, 'nowhere')), 'a command that only reads created a directory')
})

test('every command has help with examples, and its options are those of the reference and of every shown use', async () => {
  const reference = await readFile(join(root, 'docs/reference/cli.md'), 'utf8')
  const names = (text: string) => [...text.matchAll(/^ {2}(\w+) .*/gm)].map((match) => match[1]!)
  const known = new Map<string, Set<string>>()
  const texts = new Map<string, string>()
  const walk = async (path: readonly string[]): Promise<void> => {
    const { code, stdout } = await hence([...path, '--help'])
    assert.equal(code, 0, path.join(' '))
    assert.match(stdout, /^Usage: hence/)
    assert.match(stdout, /\nExamples:\n {2}(hence|source) /, `${path.join(' ')} has no example in its help`)
    if (path.length > 0) assert.match(reference, new RegExp(`\`${path.join(' ')}`))
    texts.set(`${path.join(' ')} --help`, stdout.slice(stdout.indexOf('Examples:')).replaceAll(/^ {2}/gm, ''))
    const options = new Set<string>()
    known.set(path.join(' '), options)
    for (const [option] of /\nOptions:\n([\s\S]*?)\n\n/.exec(stdout)![1]!.matchAll(/^ {2}.*?--[a-z-]+/gm)) {
      const name = option.slice(option.indexOf('--'))
      options.add(name)
      assert.ok(
        name === '--version' || reference.includes(name),
        `${path.join(' ')} ${name} is not documented`,
      )
    }
    const commands = /\nCommands:\n([\s\S]*?)\n\n/.exec(stdout)?.[1]
    if (commands) await Promise.all(names(commands).map((name) => walk([...path, name])))
  }
  await walk([])

  const pages = await readdir(join(root, 'docs'), { recursive: true })
  for (const page of ['README.md', ...pages.map((page) => `docs/${page}`)]) {
    if (page.endsWith('.md')) texts.set(page, await readFile(join(root, page), 'utf8'))
  }
  let shown = 0
  for (const [page, text] of texts) {
    // In a block or within a sentence, up to where the shell continues with something else.
    for (const [, line] of text
      .replaceAll('\\\n', ' ')
      .matchAll(/(?:^|`|\$ |npx )hence ([a-z][^`|>&#\n]*)/gm)) {
      const words = line!.split(' ')
      let path = ''
      for (const word of words) {
        if (!known.has(`${path} ${word}`.trim())) break
        path = `${path} ${word}`.trim()
      }
      if (path === '') continue
      shown++
      for (const [option] of line!.matchAll(/(?<= )--[a-z-]+/g))
        assert.ok(known.get(path)!.has(option), `${page}: "hence ${line}": ${path} has no ${option}`)
    }
  }
  assert.ok(shown > 100, `only ${shown} commands are shown`)
})

test('colours are for terminals: none in a pipe, and none if NO_COLOR is set', async () => {
  const data = await filled('colours')
  const escapeSign = String.fromCharCode(27)
  const plain = await hence(['log', 'cat', '--data', data])
  assert.ok(!plain.stdout.includes(escapeSign))
  // `script` runs the command in a terminal.
  const command = `"${process.execPath}" -C hence-source "${join(root, 'src/cli/main.ts')}" log cat --data "${data}"`
  const inTerminal = async (env: Record<string, string>) =>
    (
      await run('script', ['-qec', command, '/dev/null'], {
        env: { PATH: process.env['PATH'], TERM: 'xterm', ...env } as never,
      })
    ).stdout
  assert.ok((await inTerminal({})).includes(escapeSign), 'no colours in a terminal')
  assert.ok(!(await inTerminal({ NO_COLOR: '1' })).includes(escapeSign))
})

test('commands on a data directory, without a server and without the sources', async () => {
  const data = await filled('embedded')
  const scanned = await hence(['table', 'scan', 'products', '--data', data, '--json'])
  assert.deepEqual(json(scanned), [{ key: ['mug'], value: { title: 'A mug', stock: 1 } }], scanned.stderr)
  const more = await hence(['submit', 'place-order', orderOf('o3', 1), '--id', 'r3', '--data', data])
  assert.deepEqual([more.code, more.stdout], [0, 'accepted {"left":0} at 0:4\n'])
  const invalid = await hence(['submit', 'place-order', '{}', '--id', 'r4', '--data', data])
  assert.deepEqual([invalid.code, invalid.stdout], [1, ''])
  assert.match(invalid.stderr, /^input-invalid: /)
  const told = await hence(['explain', 'r3', '--data', data, '--app', app])
  assert.match(told.stdout, /accepted \{"left":0\}/, told.stderr)
})

test('log cat --json exports everything: inputs byte for byte, in order, also beside a running process', async (t) => {
  const data = await filled('export', 3)
  const server = await started([app, '--data', data])
  t.after(() => server.stop())
  const sent = '{"quantity":1,  "order":"o\\u0039", "product":"mug", "customer":"ada"}'
  await hence(['submit', 'place-order', sent, '--id', 'r9'], { env: { HENCE_URL: server.url } })
  const exported = await hence(['log', 'cat', '--data', data, '--json'])
  assert.equal(exported.code, 0, exported.stderr)
  const lines = json(exported) as {
    requestId: string
    kind: string
    type: string
    version: number
    token: string
    at: number
    input: unknown
  }[]
  // Each partition begins with the version of the code.
  assert.deepEqual(
    lines.slice(0, 3).map(({ kind, type }) => [kind, type]),
    new Array(3).fill(['control', 'version']),
  )
  const records = lines.slice(3)
  assert.deepEqual(
    records.map(({ requestId }) => requestId),
    ['s1', 'r1', 'r2', 'r9'],
  )
  assert.ok(records.every(({ version }) => version === 1))
  assert.deepEqual(records.at(-1)!.input, JSON.parse(sent))
  assert.ok(records.every(({ kind, at }, i) => kind === 'request' && at >= (records[i - 1]?.at ?? 0)))
  const two = await hence(['log', 'cat', '--data', data, '--json', '--limit', '2'])
  assert.equal(json(two).length, 2)
  const { token } = records[0]!
  const [partition, offset] = token.split(':') as [string, string]
  const last = await hence([
    'log',
    'cat',
    '--data',
    data,
    '--json',
    '--partition',
    partition,
    '--from',
    offset,
  ])
  assert.equal((json(last)[0] as { token: string }).token, token)
  assert.equal(await server.stop(), 0)
})

test('keys: created, listed and revoked; a running server follows', async (t) => {
  const data = join(home, 'keys')
  const start = ['start', app, '--data', data, '--port', '0']
  for (const [more, code] of [
    [[], /^keys-missing: .*hence keys create.*--open/s],
    [['--host', '0.0.0.0'], /^keys-missing: /],
    [['--open', '--host', '0.0.0.0'], /^listen-unsafe: /],
  ] as const) {
    const unsafe = await hence([...start, ...more])
    assert.deepEqual([unsafe.code, unsafe.stdout], [1, ''])
    assert.match(unsafe.stderr, code)
    await assert.rejects(stat(data), { code: 'ENOENT' }, 'a refused command created the directory')
  }

  const create = ['keys', 'create', 'till', '--data', data, '--principal', 'till-7', '--json', '--permission']
  const first = await hence([...create, 'submit:stock-product', 'read'])
  assert.match(first.stderr, /There is no log in .*keys yet/)
  const [made] = json(first) as [{ id: string; secret: string }]
  const [other] = json(await hence([...create, 'submit:place-order'])) as [{ id: string; secret: string }]
  const listed = await hence(['keys', 'list', '--data', data])
  assert.match(listed.stdout, /till: till-7 may submit:stock-product, read/)
  assert.ok(!listed.stdout.includes(made.secret) && !listed.stdout.includes(other.secret))

  // `--open` takes no effect where there are keys.
  const server = await started([app, '--data', data, '--host', '0.0.0.0'])
  t.after(() => server.stop())
  assert.doesNotMatch(server.errors, /server-open/)
  assert.equal((await hence([...create, 'read'])).stderr, '')
  const url = server.url.replace('0.0.0.0', '127.0.0.1')
  const as = (secret: string) => ({ env: { HENCE_URL: url, HENCE_KEY: secret } })
  assert.equal((await hence(['submit', 'stock-product', mugs, '--id', 's1'], as(made.secret))).code, 0)
  assert.equal((await hence(['explain', 's1'], as(made.secret))).code, 0)
  const refused = await hence(['submit', 'stock-product', mugs, '--id', 's2'], as(other.secret))
  assert.deepEqual([refused.code, refused.stdout], [1, ''])
  assert.match(refused.stderr, /not-allowed/)

  assert.equal((await hence(['keys', 'revoke', made.id, '--data', data])).code, 0)
  assert.equal((await hence(['keys', 'revoke', made.id, '--data', data])).code, 4)
  // A running server reads the file once a second.
  for (;;) {
    const { code, stderr } = await hence(['submit', 'stock-product', mugs, '--id', 's1'], as(made.secret))
    if (code === 0) continue
    assert.match(stderr, /not-authenticated.*\n.*`HENCE_KEY`/)
    break
  }
})

test('start: it stops gracefully, a second process is refused, and a waiting one takes over', async (t) => {
  const data = await filled('handover')
  const first = await started([app, '--data', data])
  t.after(() => first.stop('SIGKILL'))
  await first.error(/server-open.*everybody on this machine may do everything/)
  const refused = await hence(['start', app, '--data', data, '--open', '--port', '0'])
  assert.equal(refused.code, 5)
  assert.match(refused.stderr, /data-in-use/)

  const next = new Running(['start', app, '--data', data, '--open', '--port', '0', '--wait'])
  t.after(() => next.stop('SIGKILL'))
  await next.error(new RegExp(`waiting for pid ${first.process.pid}`))
  assert.equal(next.lines.length, 0)
  assert.equal(await first.stop(), 0)
  await next.line(/listens on/)
  assert.equal(await next.stop('SIGINT'), 0)

  const holder = await started([app, '--data', data])
  t.after(() => holder.stop('SIGKILL'))
  const patient = new Running(['start', app, '--data', data, '--open', '--port', '0', '--wait'])
  await patient.error(/waiting for pid/)
  assert.equal(await patient.stop(), 0, 'a signal does not end the wait')
})

test('start: changed code is refused, and derives everything again with `reprocess`', async () => {
  const data = await filled('changed')
  const changed = join(home, 'changed.ts')
  await writeFile(changed, (await readFile(app, 'utf8')).replace("'out-of-stock'", "'sold-out'"))
  const refused = await hence(['start', changed, '--data', data, '--open', '--port', '0'])
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /^code-changed: /)
  const server = await started([changed, '--data', data, '--on-code-change', 'reprocess'])
  const told = await hence(['explain', 'r2'], { env: { HENCE_URL: server.url } })
  await server.stop()
  assert.match(told.stdout, /rejected out-of-stock (.*\n)*.*correction outcome/)
})

test('start --handlers: the effects that the app asks for are delivered', async (t) => {
  const mail = join(home, 'mail.ts')
  await writeFile(
    mail,
    `import { app, effect, scopes } from 'hence'
import { z } from 'zod'
const [person] = scopes('person')
const letter = effect('letter', { input: z.object({ text: z.string() }) })
const write = person.request('write', {
  input: z.object({ to: z.string(), text: z.string() }),
  key: (input) => input.to,
  derive(tx, { text }) {
    tx.effect(letter, { text })
  },
})
export default app('mail', { requests: [write], tables: [], effects: [letter] })
`,
  )
  const box = join(home, 'letters')
  const handlers = join(home, 'handlers.ts')
  await writeFile(
    handlers,
    `import { appendFile } from 'node:fs/promises'
import { handlers } from 'hence'
export default handlers({ letter: ({ input, id }) => appendFile(${JSON.stringify(box)}, id + ' ' + input.text + '\\n') })
`,
  )
  const data = join(home, 'mailed')
  const write = ['submit', 'write', '{"to":"ada","text":"hello"}', '--id', 'w1']
  const without = await started([mail, '--data', data])
  t.after(() => without.stop('SIGKILL'))
  await hence(write, { env: { HENCE_URL: without.url } })
  await without.stop()
  await assert.rejects(stat(box), 'an effect without a handler was delivered')

  const server = await started([mail, '--data', data, '--handlers', handlers])
  t.after(() => server.stop('SIGKILL'))
  const stateOf = async () => {
    const told = await hence(['explain', 'w1', '--json'], { env: { HENCE_URL: server.url } })
    return (json(told)[0] as { steps: [{ effects: { state: string }[] }] }).steps[0].effects[0]!.state
  }
  while ((await stateOf()) === 'pending');
  assert.equal(await stateOf(), 'done')
  assert.match(await readFile(box, 'utf8'), /^\S+ hello\n$/)
})

test('dev: a save derives everything again and prints the diff; broken code leaves the old version running', async (t) => {
  const own = join(home, 'dev')
  await mkdir(own)
  const source = await readFile(app, 'utf8')
  const file = join(own, 'shop.ts')
  const rules = join(own, 'rules.ts')
  await writeFile(rules, 'export const most = 0\n')
  const imported = source.replace(
    "import { z } from 'zod'",
    "import { z } from 'zod'\nimport { most } from './rules.ts'",
  )
  await writeFile(file, imported.replace('row.stock < quantity', 'row.stock + most < quantity'))
  const data = join(own, 'data')
  const dev = new Running(['dev', file, '--data', data, '--port', '0', '--json'])
  t.after(() => dev.stop('SIGKILL'))
  const urlIn = (line: string) => ({ env: { HENCE_URL: JSON.parse(line).listening as string } })
  const at = urlIn(await dev.line(/"listening"/))
  await hence(['submit', 'stock-product', mugs, '--id', 's1'], at)
  await hence(['submit', 'place-order', orderOf('o1', 5), '--id', 'r1'], at)

  // A file that the app imports is part of it too.
  let seen = dev.lines.length
  await writeFile(rules, 'export const most = 5\n')
  const derived = JSON.parse(await dev.line(/"derived"/, seen))
  await dev.line(/"live"/, seen)
  assert.equal(derived.records, 3, 'the record of the first version is missing')
  assert.deepEqual(
    derived.diff.tables.map(({ name, added, removed, changed }: Record<string, unknown>) => [
      name,
      added,
      removed,
      changed,
    ]),
    [
      ['orders', 1, 0, 0],
      ['products', 0, 0, 1],
    ],
  )
  assert.deepEqual(derived.diff.outcomes[0].samples[0].before, {
    status: 'rejected',
    reason: 'out-of-stock',
    details: { stock: 3 },
  })
  const row = await hence(['table', 'get', 'products', 'mug', '--json'], at)
  assert.deepEqual(json(row), [{ key: ['mug'], value: { title: 'A mug', stock: -2 } }])

  for (const [broken, what] of [
    ['export const most =\n', /bundle-failed/],
    ["export const most = 5\nthrow new Error('no')\n", /threw while it was loaded: Error: no/],
  ] as const) {
    seen = dev.lines.length
    await writeFile(rules, broken)
    await dev.line(/"kept"/, seen)
    assert.match(dev.errors, what)
    assert.equal(
      (await hence(['table', 'get', 'products', 'mug'], at)).code,
      0,
      'the old version does not answer',
    )
  }

  // Code that lacks a definition cannot derive the log.
  seen = dev.lines.length
  await writeFile(rules, 'export const most = 5\n')
  await writeFile(file, imported.replace("'stock-product'", "'stock-it'"))
  await dev.line(/"kept"/, seen)
  assert.match(dev.errors, /unknown-message/)
  assert.equal((await hence(['submit', 'place-order', orderOf('o2', 1), '--id', 'r2'], at)).code, 0)

  // A derivation that keeps a value returns another result the second time.
  seen = dev.lines.length
  await writeFile(file, `let count = 0\n${imported.replace('left: row.stock - quantity', 'left: count++')}`)
  await dev.line(/"live"/, seen)
  assert.match(await dev.line(/"derived"/, seen), /divergence/)
  assert.equal(await dev.stop(), 0)

  // The next start finds the last state that was derived.
  const changed = new Running(['dev', file, '--data', data, '--port', '0', '--json'])
  t.after(() => changed.stop('SIGKILL'))
  await changed.line(/"listening"/)
  assert.ok(!changed.lines.some((line) => /"derived"/.test(line)), 'the same code was derived again')
  await changed.stop()
})

test('doctor: a directory that is sound, in use, torn or damaged, and --repair', async (t) => {
  const findings = (ended: Ended) =>
    (
      json(ended)[0] as {
        findings: {
          code: string
          level: string
          file?: string
          byte?: number
          message: string
          todo?: string
        }[]
      }
    ).findings
  const doctor = (data: string, ...more: string[]) => hence(['doctor', '--data', data, '--json', ...more])
  const codes = (ended: Ended) => findings(ended).map(({ code }) => code)
  const picture = async (data: string) => {
    const names = (await readdir(data, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    )
    const files = names.filter(({ name }) => !name.startsWith('lock'))
    return Promise.all(
      files.map(async ({ parentPath, name }) => [
        name,
        (await readFile(join(parentPath, name))).toString('base64'),
      ]),
    )
  }

  const nowhere = await doctor(join(home, 'nowhere'))
  assert.deepEqual([nowhere.code, codes(nowhere)], [6, ['no-log']])

  const data = await filled('doctor')
  const before = await picture(data)
  const sound = await doctor(data)
  assert.deepEqual(
    [sound.code, codes(sound)],
    [0, ['not-in-use', 'disk-space', 'partition', 'state', 'code']],
    sound.stderr,
  )
  assert.deepEqual(await picture(data), before, 'doctor changed a file')

  const server = await started([app, '--data', data])
  t.after(() => server.stop('SIGKILL'))
  const inUse = await doctor(data)
  assert.equal(inUse.code, 0)
  assert.match(findings(inUse)[0]!.message, new RegExp(`Process ${server.process.pid} on`))
  assert.equal((await doctor(data, '--repair')).code, 5, '--repair ran beside a running process')
  await server.stop()

  const segment = join(data, 'log/p0000/00000000-0000000000000000.segment')
  const file = await open(segment, 'r+')
  const bytes = await file.readFile()
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1
  await file.write(Buffer.from('torn'), 0, 4, end + 8)
  const torn = await doctor(data)
  assert.equal(torn.code, 0, 'a torn tail is reported as an error')
  const tail = findings(torn).find(({ code }) => code === 'log-torn-tail')!
  assert.deepEqual([tail.level, tail.file], ['mended', segment])
  const mended = await doctor(data, '--repair')
  assert.equal(mended.code, 0, mended.stderr)
  assert.ok(!codes(await doctor(data)).includes('log-torn-tail'))
  assert.equal((await readdir(join(data, 'log/torn'))).length, 1)

  // The second request is damaged; the batches after it prove that.
  const at = bytes.indexOf('"o1"')
  await file.write(Buffer.from('"x1"'), 0, 4, at)
  await file.close()
  const damaged = await doctor(data)
  assert.equal(damaged.code, 6)
  const damage = findings(damaged).find(({ code }) => code === 'log-damaged')!
  assert.deepEqual([damage.level, damage.file], ['wrong', segment])
  assert.ok(damage.byte! < at && bytes.subarray(damage.byte, damage.byte! + 4).toString() === 'HNCB')
  assert.match(damage.todo!, /records at offsets 2 to 3 of partition 0/)
  assert.equal((await hence(['start', app, '--data', data, '--open', '--port', '0'])).code, 6)
  const cat = await hence(['log', 'cat', '--data', data, '--json'])
  assert.deepEqual([cat.code, json(cat).length], [6, 2], 'records before the damage cannot be read')

  const refused = await doctor(data, '--repair')
  assert.equal(refused.code, 6)
  assert.match(refused.stderr, /Nothing was changed/)
  const repaired = await doctor(data, '--repair', '--yes')
  assert.equal(repaired.code, 0, repaired.stderr)
  const copies = await readdir(join(data, 'log/damaged'))
  assert.equal(copies.length, 1)
  assert.ok(
    (await readFile(join(data, 'log/damaged', copies[0]!))).includes('"x1"'),
    'the bytes that were cut off are gone',
  )
  const after = await started([app, '--data', data])
  const explained = async (id: string) =>
    (await hence(['explain', id], { env: { HENCE_URL: after.url } })).code
  assert.deepEqual([await explained('s1'), await explained('r1'), await explained('r2')], [0, 4, 4])
  await after.stop()
})

test('doctor: unreadable state is reported, and the next start derives it again', async () => {
  const data = await filled('state')
  await writeFile(join(data, 'state/0/data.mdb'), 'this is no state')
  const [code] = await readdir(join(data, 'code'))
  await appendFile(join(data, 'code', code!), '\n')
  const found = await hence(['doctor', '--data', data])
  assert.equal(found.code, 0)
  assert.match(found.stdout, /! The derived state in .* cannot be read: .* the next start does so/)
  await rm(join(data, 'code', code!))
  const server = await started([app, '--data', data])
  const row = await hence(['table', 'get', 'products', 'mug', '--json'], { env: { HENCE_URL: server.url } })
  assert.deepEqual(json(row), [{ key: ['mug'], value: { title: 'A mug', stock: 1 } }])
  await server.stop()
})

test('a port in use leaves no directory', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const { port } = other.address() as AddressInfo
  const data = join(home, 'never')
  const { code, stderr } = await hence(['start', app, '--data', data, '--open', '--port', `${port}`])
  assert.equal(code, 6)
  assert.match(stderr, /listen-failed/)
  await assert.rejects(access(data), { code: 'ENOENT' })
  // A start that fails otherwise does not keep the port, and ends.
  const none = ['start', app, '--data', data, '--open', '--port', '0', '--handlers', 'no-such-handlers.ts']
  assert.notEqual((await hence(none)).code, 0)
})
