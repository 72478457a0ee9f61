import assert from 'node:assert/strict'
import { cp, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bundleApp, createEngine } from 'hence'
import { doctor, verify } from 'hence/offline'
import type poison from '../apps/poison.ts'

// Two copies of one directory go on separately, and the log of one is put under the state of the other.

const app = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))

async function count(data: string, partitions: number, ids: readonly string[]): Promise<string> {
  const engine = await createEngine({ app, data, partitions, report: () => {} })
  for (const [i, id] of ids.entries())
    await engine.submit('count', { jar: `jar ${i % 3}` }, { requestId: id })
  const digest = await engine.digest()
  await engine.close()
  return digest
}

for (const partitions of [1, 2]) {
  test(`the state of another branch of the log is refused, on ${partitions} partitions`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hence-branch-'))
    const [a, b] = [join(folder, 'a'), join(folder, 'b')]
    try {
      await count(a, partitions, ['1', '2', '3'])
      await cp(a, b, { recursive: true })
      await count(a, partitions, ['a1', 'a2', 'a3'])
      // The longer log, so that every position of the state is in it.
      const digest = await count(
        b,
        partitions,
        Array.from({ length: 12 }, (_, i) => `b${i}`),
      )
      await rm(join(a, 'log'), { recursive: true })
      await rename(join(b, 'log'), join(a, 'log'))

      await assert.rejects(count(a, partitions, []), { code: 'state-of-another-log' })
      const { ok, findings, repairs } = await doctor({ data: a })
      assert.equal(ok, false)
      assert.deepEqual(
        findings.filter(({ level }) => level === 'wrong').map(({ code }) => code),
        ['state-of-another-log'],
      )
      assert.deepEqual(
        repairs.map((repair) => repair.kind === 'set-state-aside' && repair.folder),
        ['state'],
      )
      const { flaws } = await verify({ data: a })
      assert.notEqual(flaws.length, 0)
      await rm(join(a, 'state'), { recursive: true })
      assert.equal(await count(a, partitions, []), digest)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
}

for (const lost of ['log', 'log/meta.json'] as const) {
  test(`a start makes no new log where ${lost} is gone and what was derived from it is left`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'hence-branch-'))
    t.after(() => rm(folder, { recursive: true }))
    const [data, away] = [join(folder, 'data'), join(folder, 'away')]
    const digest = await count(data, 1, ['1', '2', '3'])
    await rename(join(data, lost), away)
    await assert.rejects(count(data, 1, []), { code: 'log-missing' })
    const { findings } = await doctor({ data })
    assert.deepEqual(
      findings.filter(({ level }) => level === 'wrong').map(({ code }) => code),
      ['log-missing'],
    )
    await rm(join(data, lost), { recursive: true, force: true })
    await rename(away, join(data, lost))
    assert.equal(await count(data, 1, []), digest)
  })
}
