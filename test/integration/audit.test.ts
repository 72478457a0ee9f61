import assert from 'node:assert/strict'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { hence, started } from '../hence-process.ts'

// Receipts from the request to the check, through the command line, as a client and an auditor would.

const notes = fileURLToPath(import.meta.resolve('../server/notes.ts'))

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-audit-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

const write = (number: number) => ['submit', 'write', JSON.stringify({ owner: 'ada', number, text: 'x' })]

test('a receipt is got from a server, and checked later with the public key alone', async (t) => {
  const folder = await folderFor(t)
  const file = (name: string) => join(folder, name)
  const data = file('data')
  const server = await started([notes, '--data', data, '--publish-heads', file('published.ndjson')])
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
  assert.deepEqual(stored, published)

  await rm(data, { recursive: true })
  const check = (name: string, key = 'key.pem') =>
    hence(['receipt', 'check', file(name), '--key', file(key), '--json'])
  const checked = await check('receipt.json')
  assert.equal(checked.code, 0, checked.stderr)
  const { type, requestId, input, token } = JSON.parse(checked.stdout)
  assert.deepEqual([type, requestId, input.number, token], ['write', 'n3', 3, '0:3'])

  await writeFile(file('changed.json'), got.stdout.replace('"offset":3', '"offset":2'))
  const changed = await check('changed.json')
  assert.equal(changed.code, 1)
  assert.match(changed.stderr, /receipt-invalid/)
  assert.match((await check('receipt.json', 'receipt.json')).stderr, /public-key-invalid/)
  assert.match((await check('nowhere.json')).stderr, /file-unreadable/)
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
