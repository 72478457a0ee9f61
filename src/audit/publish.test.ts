import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { appendFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { headLine, type SignedHead, signHead } from './head.ts'
import { readHeads } from './head-file.ts'
import { publishToFile } from './publisher.ts'

const { privateKey } = generateKeyPairSync('ed25519')
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
