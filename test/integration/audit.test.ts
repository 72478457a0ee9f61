import assert from 'node:assert/strict'
import { copyFile, cp, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openLmdbStore } from '../../src/state/lmdb-store.ts'
import { hence, started } from '../hence-process.ts'

// Receipts from the request to the check, on the command line, as a client and an auditor would use them.

const notes = fileURLToPath(import.meta.resolve('../server/notes.ts'))

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-audit-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

const write = (number: number) => ['submit', 'write', JSON.stringify({ owner: 'ada', number, text: 'x' })]

test('a receipt from a server can be checked later with the public key alone', async (t) => {
  const folder = await folderFor(t)
  const file = (name: string) => join(folder, name)
  const data = file('data')
  const server = await started([notes, '--data', data, '--audit', '--publish', file('published.ndjson')])
  const at = ['--url', server.url]
  for (let i = 0; i < 5; i++) {
    assert.equal((await hence([...write(i), '--id', `n${i}`, ...at])).code, 0)
  }
  const got = await hence(['receipt', 'get', 'n3', ...at])
  assert.equal(got.code, 0, got.stderr)
  await writeFile(file('receipt.json'), got.stdout)
  assert.equal((await hence(['receipt', 'get', 'n9', ...at])).code, 4)
  assert.equal(await server.stop(), 0)

  await copyFile(join(data, 'audit/public-key.pem'), file('key.pem'))
  const embedded = await hence(['receipt', 'get', 'n4', '--data', data])
  assert.equal(embedded.code, 0, embedded.stderr)
  const published = (await readFile(file('published.ndjson'), 'utf8')).trim().split('\n')
  const stored = (await readFile(join(data, 'audit/heads.ndjson'), 'utf8')).trim().split('\n')
  assert.equal(stored.at(-1), published.at(-1))
  for (const line of published) assert.ok(stored.includes(line))

  await rm(data, { recursive: true })
  const check = (name: string, key = 'key.pem') =>
    hence(['receipt', 'check', file(name), '--key', file(key), '--json'])
  const checked = await check('receipt.json')
  assert.equal(checked.code, 0, checked.stderr)
  const { type, requestId, input, token } = JSON.parse(checked.stdout)
  assert.deepEqual([type, requestId, input.number, token], ['write', 'n3', 3, '0:4'])

  await writeFile(file('changed.json'), got.stdout.replace('"offset":4', '"offset":3'))
  const changed = await check('changed.json')
  assert.equal(changed.code, 1)
  assert.match(changed.stderr, /receipt-invalid/)
  assert.match((await check('receipt.json', 'receipt.json')).stderr, /public-key-invalid/)
  assert.match((await check('nowhere.json')).stderr, /file-unreadable/)
})

test('the holder of an earlier head can check that the log has only grown since', async (t) => {
  const folder = await folderFor(t)
  const file = (name: string) => join(folder, name)
  const data = file('data')
  const save = async (name: string, args: readonly string[]) => {
    const { code, stdout, stderr } = await hence(args)
    assert.equal(code, 0, stderr)
    await writeFile(file(name), stdout)
  }
  const server = await started([notes, '--data', data, '--audit', '--partitions', '2'])
  t.after(() => server.stop())
  const at = ['--url', server.url]
  for (let i = 0; i < 3; i++) assert.equal((await hence([...write(i), '--id', `n${i}`, ...at])).code, 0)
  await save('receipt.json', ['receipt', 'get', 'n1', ...at])
  await save('monday.json', ['head', 'get', ...at])
  for (let i = 3; i < 6; i++) assert.equal((await hence([...write(i), '--id', `n${i}`, ...at])).code, 0)
  await save('later.json', ['receipt', 'get', 'n5', ...at])
  await save('tuesday.json', ['head', 'get', ...at])
  for (const name of ['monday', 'receipt']) {
    await save(`${name}-proof.json`, ['head', 'get', '--since', file(`${name}.json`), ...at])
  }
  assert.equal(await server.stop(), 0)
  await copyFile(join(data, 'audit/public-key.pem'), file('key.pem'))

  const check = async (earlier: string, later: string, key = 'key.pem') => {
    const args = ['head', 'check', file(earlier), file(later), '--key', file(key), '--json']
    const { code, stdout, stderr } = await hence(args)
    return { code, stderr, told: stdout === '' ? undefined : JSON.parse(stdout) }
  }
  for (const name of ['monday', 'receipt']) {
    const { code, told, stderr } = await check(`${name}.json`, `${name}-proof.json`)
    assert.equal(code, 0, stderr)
    assert.ok(told.proven && told.records > 0)
  }
  const alone = await check('monday.json', 'tuesday.json')
  assert.deepEqual([alone.code, alone.told.proven], [4, false])
  assert.equal((await check('tuesday.json', 'later.json')).code, 0)
  const other = await check('tuesday.json', 'monday-proof.json')
  assert.equal(other.code, 1)
  assert.match(other.stderr, /consistency-invalid/)
  const proof = JSON.parse(await readFile(file('monday-proof.json'), 'utf8'))
  await writeFile(file('forged.json'), JSON.stringify({ ...proof, paths: proof.paths.map(() => []) }))
  const forged = await check('monday.json', 'forged.json')
  assert.equal(forged.code, 6)
  assert.match(forged.stderr, /not-consistent/)

  // The log is restored to Monday under the same key, and continues differently.
  const { code, stderr } = await hence([
    ...['restore', '--from', data, '--to', file('again'), '--at', '0:0,1:0'],
  ])
  assert.equal(code, 0, stderr)
  await copyFile(join(data, 'audit/key.pem'), join(file('again'), 'audit/key.pem'))
  const there = ['--data', file('again'), '--app', notes]
  const refused = await hence(['head', 'get', '--since', file('tuesday.json'), ...there])
  assert.equal(refused.code, 6)
  assert.match(refused.stderr, /log-shorter-than-head/)
  for (let i = 10; i < 20; i++) {
    assert.equal((await hence([...write(i), '--id', `n${i}`, ...there])).code, 0)
  }
  await save('rewritten.json', ['head', 'get', '--since', file('tuesday.json'), ...there])
  const rewritten = await check('tuesday.json', 'rewritten.json')
  assert.equal(rewritten.code, 6)
  assert.match(rewritten.stderr, /not-consistent/)
})

test('without --audit there are no receipts', async (t) => {
  const folder = await folderFor(t)
  const server = await started([notes, '--data', join(folder, 'data')])
  t.after(() => server.stop())
  assert.equal((await hence([...write(1), '--id', 'n1', '--url', server.url])).code, 0)
  const { code, stderr } = await hence(['receipt', 'get', 'n1', '--url', server.url])
  assert.equal(code, 1)
  assert.match(stderr, /audit-off/)
})

test('verify passes a sound directory, also beside a running process, and names damage', async (t) => {
  const folder = await folderFor(t)
  const file = (name: string) => join(folder, name)
  const data = file('data')
  const verify = async (...more: string[]) => {
    const { code, stdout, stderr } = await hence(['verify', '--data', data, '--json', ...more])
    return { code, stderr, told: stdout === '' ? undefined : JSON.parse(stdout) }
  }
  assert.equal((await verify()).code, 1)

  const server = await started([notes, '--data', data, '--partitions', '2', '--audit'])
  t.after(() => server.stop())
  const lines = Array.from({ length: 300 }, (_, number) =>
    JSON.stringify({
      requestId: `n${number}`,
      type: 'write',
      input: { owner: `o${number % 7}`, number, text: 'x' },
    }),
  )
  const sent = await fetch(`${server.url}/requests`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: `${lines.join('\n')}\n`,
  })
  assert.equal((await sent.text()).match(/"accepted"/g)?.length, 300)
  const beside = await verify()
  assert.equal(beside.code, 0, JSON.stringify(beside))
  assert.equal(await server.stop(), 0)

  const right = await verify()
  assert.equal(right.code, 0, JSON.stringify(right))
  const { ok, records, heads, history, flaws } = right.told
  assert.deepEqual([ok, history.checked, history.tables, flaws], [true, true, 4, []])
  assert.ok(records >= 300 && heads >= 1)
  assert.equal(history.records, records)
  assert.deepEqual(await verify('--no-history').then(({ told }) => told.history.checked), false)

  // A row that was never derived.
  await cp(join(data, 'state'), file('state'), { recursive: true })
  await tamper(join(data, 'state/0'))
  const tampered = await verify()
  assert.equal(tampered.code, 6)
  assert.deepEqual(
    tampered.told.flaws.map(({ code }: { code: string }) => code),
    ['table-differs'],
  )
  await rm(join(data, 'state'), { recursive: true })
  await cp(file('state'), join(data, 'state'), { recursive: true })

  const log = join(data, 'log/p0001')
  const segment = join(log, (await readdir(log)).find((name) => name.endsWith('.segment'))!)
  const bytes = await readFile(segment)
  const at = bytes.indexOf('"owner"')
  const handle = await open(segment, 'r+')
  await handle.write('"OWNER"', at)
  await handle.close()
  const damaged = await verify()
  assert.equal(damaged.code, 6)
  const [flaw] = damaged.told.flaws
  assert.deepEqual([flaw.code, flaw.file], ['log-damaged', segment])
  assert.ok(flaw.byte < at)
  assert.equal(damaged.told.history.checked, false)
  await writeFile(segment, bytes)

  await writeFile(file('heads.ndjson'), 'nothing\n')
  assert.match((await verify('--head', file('heads.ndjson'))).stderr, /head-invalid/)
  assert.match((await verify('--head', file('nowhere'))).stderr, /file-unreadable/)
})

test('a log that replaced another fails against a published head', async (t) => {
  const folder = await folderFor(t)
  const file = (name: string) => join(folder, name)
  const published = file('published.ndjson')
  const run = async (data: string, ids: readonly string[], ...more: string[]) => {
    const server = await started([notes, '--data', data, '--audit', ...more])
    for (const [i, id] of ids.entries()) await hence([...write(i), '--id', id, '--url', server.url])
    assert.equal(await server.stop(), 0)
  }
  await run(file('data'), ['a', 'b', 'c'], '--publish', published)
  await copyFile(file('data/audit/public-key.pem'), file('key.pem'))
  const meta = await readFile(file('data/log/meta.json'))
  await run(file('data2'), ['a'])
  const { logId } = JSON.parse(meta.toString())
  assert.equal(
    (await hence(['verify', '--data', file('data'), '--head', published, '--key', file('key.pem')])).code,
    0,
  )
  const other = await hence([
    'verify',
    '--data',
    file('data2'),
    '--head',
    published,
    '--json',
    '--key',
    file('key.pem'),
  ])
  assert.equal(other.code, 6)
  assert.ok(other.stdout.includes(logId))
})

/** Changes a row in the derived state, as an LMDB tool could. */
async function tamper(directory: string): Promise<void> {
  const store = await openLmdbStore({ directory, collections: ['t:notes'] })
  const [[key, row]] = [...store.range('t:notes')] as [[string, string]]
  await store.write([['t:notes', [[key, row.replace('"stars":0', '"stars":5')]]]])
  await store.close()
}
