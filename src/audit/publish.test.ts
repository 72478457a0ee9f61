import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { headLine, isSignedBy, parseHead, type SignedHead, signHead } from './head.ts'
import { readHeads } from './head-file.ts'
import { publishToFile, publishToWebhook } from './publish.ts'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const { signal } = new AbortController()

function headOf(size: number, partitions = 1): SignedHead {
  const tree = { size, root: size.toString(16).padStart(64, '0') }
  return signHead(privateKey, { logId: '0'.repeat(32), time: size, partitions: Array(partitions).fill(tree) })
}

async function fileFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hence-publish-'))
  t.after(() => rm(folder, { recursive: true }))
  return join(folder, 'heads.ndjson')
}

async function sizesIn(path: string): Promise<number[]> {
  const sizes = []
  for await (const head of readHeads(path)) sizes.push(head.partitions[0]!.size)
  return sizes
}

for (const partitions of [1, 300]) {
  test(`a file gets a line a head, also after a crash in the middle of one (${partitions} partitions)`, async (t) => {
    const path = await fileFor(t)
    await publishToFile(path)(headOf(1, partitions), signal)
    const publish = publishToFile(path)
    await publish(headOf(1, partitions), signal)
    await publish(headOf(2, partitions), signal)
    assert.equal(
      await readFile(path, 'utf8'),
      [1, 2].map((n) => `${headLine(headOf(n, partitions))}\n`).join(''),
    )
    await appendFile(path, headLine(headOf(3, partitions)).slice(0, -20))
    await publish(headOf(4, partitions), signal)
    assert.deepEqual(await sizesIn(path), [1, 2, 4])
    // The collector of heads may move the file away.
    await rename(path, `${path}.1`)
    await publish(headOf(5, partitions), signal)
    assert.deepEqual(await sizesIn(path), [5])
  })
}

test('a file that cannot be written, or holds something else, is not written to', async (t) => {
  const path = await fileFor(t)
  await assert.rejects(async () => publishToFile(join(path, 'none'))(headOf(1), signal), { code: 'ENOENT' })
  await writeFile(path, 'a shopping list\n')
  await assert.rejects(async () => publishToFile(path)(headOf(1), signal), { code: 'head-invalid' })
  assert.equal(await readFile(path, 'utf8'), 'a shopping list\n')
})

test('a webhook is verified by its receiver, and holds a head that verifies', async (t) => {
  const secret = `whsec_${Buffer.from('a secret of the notary').toString('base64')}`
  const got: { headers: IncomingHttpHeaders; body: string }[] = []
  let status = 204
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    got.push({ headers: request.headers, body })
    response.writeHead(status, status === 429 ? { 'retry-after': '7' } : {}).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/heads`
  const publish = publishToWebhook({ url, secret, allowAddresses: ['127.0.0.1'] })
  await publish(headOf(5), signal)
  await publish(headOf(5), signal)
  await publish(headOf(6), signal)
  const ids = got.map(({ headers }) => headers['webhook-id'])
  assert.equal(ids[0], ids[1])
  assert.notEqual(ids[1], ids[2])
  const [{ headers, body }] = got as [(typeof got)[0]]
  const { type, timestamp, data } = new Webhook(secret).verify(body, headers as Record<string, string>) as {
    readonly type: string
    readonly timestamp: string
    readonly data: unknown
  }
  assert.deepEqual([type, timestamp], ['hence.head', '1970-01-01T00:00:00.005Z'])
  assert.equal(JSON.stringify(data), headLine(headOf(5)))
  assert.ok(isSignedBy(publicKey, parseHead(JSON.stringify(data))))
  status = 429
  await assert.rejects(async () => publish(headOf(7), signal), { retryAfterMs: 7_000 })
  status = 403
  await assert.rejects(async () => publish(headOf(7), signal), /status 403/)
  assert.throws(() => publishToWebhook({ url: 'ftp://x', secret }), { code: 'option-invalid' })
  assert.throws(() => publishToWebhook({ url, secret }), { code: 'address-not-allowed' })
  assert.throws(() => publishToWebhook({ url, secret: [] }), { code: 'option-invalid' })
})
