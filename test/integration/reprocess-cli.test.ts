import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { crashAt } from '../crash-points.ts'
import { type Ended, hence, Running, started } from '../hence-process.ts'

// `hence reprocess` and `hence check` as processes, on a directory and against a server, also killed
// half-way.

const root = join(import.meta.dirname, '../..')
let home: string
let old: string
let fresh: string
/** Like `fresh`, but slow enough to be killed half-way. */
let slow: string

before(async () => {
  // Within the project, so that the apps can import Hence.
  await mkdir(join(root, 'data'), { recursive: true })
  home = await mkdtemp(join(root, 'data/reprocess-'))
  const source = await readFile(join(root, 'template/shop/shop.ts'), 'utf8')
  // Version 1 does not subtract ordered units from the stock.
  const right = 'tx.put(products, { ...row, stock: row.stock - quantity })'
  assert.ok(source.includes(right))
  const write = async (name: string, text: string) => {
    await writeFile(join(home, name), text)
    return join(home, name)
  }
  old = await write('old.ts', source.replace(right, 'tx.put(products, { ...row })'))
  fresh = await write('fresh.ts', source)
  const begin = 'const row = tx.get(products)\n    if (!row)'
  assert.ok(source.includes(begin))
  slow = await write('slow.ts', source.replace(begin, `let n = 0\n    while (n < 2e6) n++\n    ${begin}`))
})
after(() => rm(home, { recursive: true, force: true }))

function one<T>(ended: Ended): T {
  assert.equal(ended.code, 0, ended.stderr)
  return JSON.parse(ended.stdout) as T
}

function refusal(ended: Ended): { code: string; advice: string; message: string } {
  return JSON.parse(ended.stderr.trim().split('\n').at(-1)!).error
}

interface Status {
  readonly generation: number
  readonly version: string
  readonly state: string
  readonly records: number
  readonly of: number
}

interface Diff {
  readonly differences: number
  readonly sha256: string
  readonly tables: readonly { name: string; added: number; removed: number; changed: number }[]
}

/** A directory whose log has 3 mugs and this many orders of one mug each, derived by version 1. */
async function filled(name: string, orders = 5, partitions = 1): Promise<string> {
  const data = join(home, name)
  const server = await started([old, '--data', data, '--partitions', String(partitions)])
  const stock = { product: 'mug', title: 'A mug', quantity: 3 }
  const lines = [{ requestId: 's1', type: 'stock-product', input: stock }, ...ordersOf(orders)]
  await batch(server.url, lines)
  await server.stop()
  return data
}

function ordersOf(count: number, from = 0) {
  return Array.from({ length: count }, (_, i) => ({
    requestId: `r${from + i}`,
    type: 'place-order',
    input: { order: `o${from + i}`, product: 'mug', quantity: 1, customer: 'ada' },
  }))
}

async function batch(url: string, lines: readonly object[]): Promise<void> {
  const answer = await fetch(`${url}/requests`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: lines.map((line) => JSON.stringify(line)).join('\n'),
  })
  assert.equal((await answer.text()).trim().split('\n').length, lines.length)
}

test('on a directory: run, diff in every form, promote once, roll back, discard', async () => {
  const data = await filled('directory')
  const at = (...args: string[]) => hence(['reprocess', ...args, '--data', data])

  assert.equal(refusal(await at('run', '--json')).code, 'reprocess-none')

  const ran = one<Status>(await at('run', fresh, '--json'))
  assert.deepEqual([ran.generation, ran.state, ran.records], [1, 'following', ran.of])
  const again = one<Status>(await at('run', fresh, '--json'))
  assert.equal(again.generation, 1, 'the same code started again')
  assert.equal(refusal(await at('run', slow, '--json')).code, 'reprocess-exists')

  const diff = one<Diff>(await at('diff', '--json'))
  assert.deepEqual(
    diff.tables.map(({ name, added, removed, changed }) => [name, added, removed, changed]),
    [
      ['orders', 0, 2, 0],
      ['products', 0, 0, 1],
    ],
  )
  const file = join(home, 'diff.ndjson')
  const whole = await at('diff', '--format', 'ndjson', '--out', file)
  assert.equal(whole.stderr, `diff ${diff.sha256}\n`)
  const lines = await readFile(file, 'utf8')
  assert.equal(lines.split('\n').length - 1, diff.differences)
  assert.equal(
    createHash('sha256').update(lines).digest('hex'),
    diff.sha256,
    'the hash is not that of the lines',
  )
  assert.equal((await at('diff', '--format', 'ndjson')).stdout, lines)
  assert.match((await at('diff')).stdout, /generation 0.* → generation 1.*\n(.*\n)*.*products/)

  const asked = await at('promote', '--diff', diff.sha256)
  assert.deepEqual([asked.code, asked.stdout], [1, ''])
  assert.match(asked.stderr, /confirm with --yes/)
  assert.equal((await at('promote', '--yes')).code, 2)
  const other = await at('promote', '--diff', '0'.repeat(64), '--yes', '--json')
  assert.equal(refusal(other).code, 'diff-unknown')
  const promote = [
    'promote',
    '--diff',
    diff.sha256,
    '--note',
    'stock',
    '--request-id',
    'p1',
    '--yes',
    '--json',
  ]
  const promoted = one<{ generation: number; before: number; replayed: boolean }>(await at(...promote))
  assert.deepEqual([promoted.generation, promoted.before, promoted.replayed], [1, 0, false])
  assert.equal(one<{ replayed: boolean }>(await at(...promote)).replayed, true)

  // The new code is in force, and the old code is not.
  const row = ['table', 'get', 'products', 'mug', '--json', '--data', data]
  assert.deepEqual(one(await hence(row)), { key: ['mug'], value: { title: 'A mug', stock: 0 } })
  const server = await started([fresh, '--data', data])
  assert.equal(await server.stop(), 0)
  assert.equal((await hence(['start', old, '--data', data, '--open', '--port', '0'])).code, 1)

  const status = await at('status')
  assert.match(status.stdout, /^generation 1 live.*\ngeneration 0 following.*live before and kept/)
  assert.match(status.stdout, /generation 1 promoted by somebody.*"stock"/)
  assert.equal((await at('discard')).code, 1, 'discard did not ask for --yes')
  const back = await at('rollback', '--note', 'back', '--yes')
  assert.equal(back.code, 0, back.stderr)
  assert.match(back.stderr, /products/, 'the rollback did not print the differences')
  assert.match(back.stdout, /^Generation 0 is live/)
  assert.deepEqual(one(await hence(row)), { key: ['mug'], value: { title: 'A mug', stock: 3 } })
  const discarded = await at('discard', '--yes')
  assert.deepEqual([discarded.code, discarded.stdout], [0, 'Discarded generation 1.\n'])
  assert.equal(refusal(await at('rollback', '--yes', '--json')).code, 'reprocess-none')
  assert.equal(refusal(await at('discard', '--yes', '--json')).code, 'reprocess-none')
})

test(
  crashAt('candidate deriving', 'a run that is killed or stopped continues, and ends with the same diff'),
  async () => {
    const data = await filled('killed', 2_000, 2)
    const whole = join(home, 'whole')
    await cp(data, whole, { recursive: true })
    assert.equal((await hence(['reprocess', 'run', slow, '--data', whole])).code, 0)
    const expected = one<Diff>(await hence(['reprocess', 'diff', '--data', whole, '--json']))
    assert.ok(expected.differences > 0)

    const text = (name: string) => readFile(join(data, name), 'utf8').catch(() => '')
    for (const signal of ['SIGKILL', 'SIGKILL', 'SIGINT'] as const) {
      const run = new Running(['reprocess', 'run', slow, '--data', data, '--json'])
      // The manifest may be from the run before. A process that has the directory handles signals.
      await until(
        async () =>
          (await text('lock.json')).includes(`"pid":${run.process.pid},`) &&
          (await text('state/generations.json')).includes('"candidate"'),
      )
      // It is stopped at a different moment each time. The log is long enough that this is rarely the end.
      await new Promise((resolve) => setTimeout(resolve, 700))
      const code = await run.stop(signal)
      if (signal === 'SIGINT' && code !== 0) {
        assert.equal(code, 5)
        assert.match(run.errors, /The same command continues where it stopped/)
      }
    }
    const done = one<Status>(await hence(['reprocess', 'run', '--data', data, '--json']))
    assert.deepEqual([done.generation, done.state, done.records], [1, 'following', done.of])
    const diff = one<Diff>(await hence(['reprocess', 'diff', '--data', data, '--json']))
    assert.equal(diff.sha256, expected.sha256)
  },
)

test(
  crashAt('candidate paused', 'on a server, with code from its directory, it continues after a kill'),
  async (t) => {
    const data = await filled('served', 500)
    let server = await started([old, '--data', data])
    t.after(() => server.stop('SIGKILL'))
    const env = () => ({ env: { HENCE_URL: server.url } })
    const at = (...args: string[]) => hence(['reprocess', ...args], env())

    const nowhere = await at('run', slow, '--json')
    assert.equal(refusal(nowhere).code, 'code-not-kept', 'code was sent over HTTP')
    const inUse = await hence(['reprocess', 'run', slow, '--data', data, '--json'])
    assert.deepEqual([inUse.code, refusal(inUse).code], [5, 'data-in-use'])

    const begun = await hence([
      'reprocess',
      'run',
      slow,
      '--data',
      data,
      '--url',
      server.url,
      '--share',
      '0.2',
      '--detach',
      '--json',
    ])
    const { version } = one<Status>(begun)
    assert.ok((await readdir(join(data, 'code'))).includes(`${version}.js`))
    assert.equal(one<Status>(await at('pause', '--json')).state, 'paused')
    await server.stop('SIGKILL')
    server = await started([old, '--data', data])
    const generations = one<{ candidate: Status }>(await at('status', '--json'))
    assert.deepEqual([generations.candidate.state, generations.candidate.version], ['paused', version])
    assert.equal(refusal(await at('diff', '--json')).code, 'reprocess-paused')
    assert.equal(one<Status>(await at('resume', '--json')).state, 'deriving')
    await batch(server.url, ordersOf(100, 500))
    const { generation, state, version: derivedBy } = one<Status>(await at('run', '--json'))
    assert.deepEqual([generation, state, derivedBy], [1, 'following', version])

    const file = join(home, 'served.ndjson')
    const told = await at('diff', '--format', 'ndjson', '--out', file)
    assert.equal(told.code, 0, told.stderr)
    const hash = createHash('sha256')
      .update(await readFile(file))
      .digest('hex')
    assert.equal(told.stderr, `diff ${hash}\n`)
    const metrics = async () => (await fetch(`${server.url}/metrics`)).text()
    assert.match(await metrics(), /^hence_generation 0$/m)
    assert.match(await metrics(), /^hence_reprocess_records_left\{generation="1"\} 0$/m)
    const info = async () =>
      ((await (await fetch(`${server.url}/openapi.json`)).json()) as { info: object }).info
    const before = await info()

    const promoted = await at('promote', '--diff', hash, '--request-id', 'p1', '--yes', '--json')
    assert.equal(one<{ replayed: boolean }>(promoted).replayed, false)
    assert.equal(
      one<{ replayed: boolean }>(await at('promote', '--diff', hash, '--request-id', 'p1', '--yes', '--json'))
        .replayed,
      true,
    )
    assert.notDeepEqual(await info(), before, 'the OpenAPI document did not change')
    assert.match(await metrics(), /^hence_generation 1$/m)
    const row = await hence(['table', 'get', 'products', 'mug', '--json'], env())
    assert.deepEqual(one(row), { key: ['mug'], value: { title: 'A mug', stock: 0 } })
    const sold = await hence(['submit', 'place-order', JSON.stringify(ordersOf(1, 900)[0]!.input)], env())
    assert.deepEqual([sold.code, /out-of-stock/.test(sold.stdout)], [3, true], 'the old code decided')

    const back = await at('rollback', '--yes')
    assert.equal(back.code, 0, back.stderr)
    assert.equal(
      refusal(await at('pause', '--json').then(() => at('promote', '--diff', hash, '--yes', '--json'))).code,
      'diff-unknown',
    )
    assert.equal((await at('discard', '--yes')).code, 0)
    assert.equal(refusal(await at('pause', '--json')).code, 'reprocess-none')
  },
)

test('check: reads the whole log, compares, reports by exit code, and writes nothing', async (t) => {
  const data = await filled('checked', 50, 2)
  const server = await started([old, '--data', data])
  t.after(() => server.stop('SIGKILL'))
  const before = await picture(data)
  const check = (...args: string[]) => hence(['check', ...args, '--data', data])

  const same = await check(old, '--fail-on', 'differences')
  assert.equal(same.code, 0, same.stderr)
  assert.match(same.stdout, /Nothing differs/)
  const told = one<{ records: number; isPart: boolean; unreadable: unknown[]; diff: Diff }>(
    await check(fresh, '--json'),
  )
  assert.deepEqual([told.isPart, told.unreadable], [false, []])
  assert.deepEqual(
    told.diff.tables.map(({ name, removed, changed }) => [name, removed, changed]),
    [
      ['orders', 47, 0],
      ['products', 0, 1],
    ],
  )
  assert.equal((await check(fresh, '--fail-on', 'differences')).code, 7)
  const part = one<{ records: number; isPart: boolean }>(await check(fresh, '--json', '--sample', '1'))
  assert.deepEqual([part.isPart, part.records < told.records], [true, true])
  const lines = await check(fresh, '--format', 'ndjson')
  assert.equal(createHash('sha256').update(lines.stdout).digest('hex'), told.diff.sha256)

  const blind = join(home, 'blind.ts')
  await writeFile(blind, (await readFile(fresh, 'utf8')).replace("'stock-product'", "'stock-it'"))
  const unreadable = await check(blind, '--json')
  assert.equal(unreadable.code, 8)
  assert.deepEqual(
    JSON.parse(unreadable.stdout).unreadable.map(({ type, version, count }: Record<string, unknown>) => [
      type,
      version,
      count,
    ]),
    [['stock-product', 1, 1]],
  )
  assert.match(
    (await check(blind)).stderr,
    /does not know 1 requests in the log: "stock-product" of version 1/,
  )
  assert.deepEqual(await picture(data), before)

  // A backup has no tables; its log says which code was in force.
  const copy = join(home, 'copy')
  assert.equal((await hence(['backup', '--data', data, '--to', copy])).code, 0)
  const backed = one<{ diff: Diff }>(await hence(['check', fresh, '--data', copy, '--json']))
  assert.equal(backed.diff.sha256, told.diff.sha256)
  await server.stop()
  assert.equal((await hence(['check', fresh, '--data', join(home, 'nowhere')])).code, 1)
})

test('start prints the command to run when the code has changed; `continue` keeps the rows', async () => {
  const data = await filled('changed')
  const refused = await hence(['start', fresh, '--data', data, '--open', '--port', '0'])
  assert.equal(refused.code, 1)
  const line = refused.stderr.split('\n').find((text) => text.startsWith('    hence reprocess run'))!
  assert.deepEqual(line.trim().split(' '), ['hence', 'reprocess', 'run', fresh, '--data', data])
  assert.match(refused.stderr, /--on-code-change continue/)
  const server = await started([fresh, '--data', data, '--on-code-change', 'continue'])
  const env = { HENCE_URL: server.url }
  const row = await hence(['table', 'get', 'products', 'mug', '--json'], { env })
  assert.deepEqual(one(row), { key: ['mug'], value: { title: 'A mug', stock: 3 } })
  await hence(['submit', 'place-order', JSON.stringify(ordersOf(1, 9)[0]!.input)], { env })
  const now = await hence(['table', 'get', 'products', 'mug', '--json'], { env })
  assert.deepEqual(one(now), { key: ['mug'], value: { title: 'A mug', stock: 2 } })
  await server.stop()
  // The directory opens with the code that took over.
  const status = await hence(['reprocess', 'status', '--data', data])
  assert.match(status.stdout, /took over in generation 0/)
})

/** Every file of a directory except the lock. */
async function picture(directory: string): Promise<(readonly [name: string, content: string])[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('lock'))
  return Promise.all(
    files.map(
      async ({ parentPath, name }) =>
        [
          join(parentPath, name),
          createHash('sha256')
            .update(await readFile(join(parentPath, name)))
            .digest('hex'),
        ] as const,
    ),
  )
}

async function until(met: () => Promise<boolean>): Promise<void> {
  while (!(await met())) await new Promise((resolve) => setTimeout(resolve, 5))
}
