import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, type HenceError } from 'hence'
import { doctor } from 'hence/offline'
import type * as made from '../../test/apps/once.ts'
import { appsOf } from '../../test/apps.ts'

const { house } = appsOf<typeof made>(import.meta.resolve('../../test/apps/once.ts'))

test('a file in the place of a folder, and the reverse: doctor and a start say the same, and change nothing', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-misplaced-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  const whole = join(home, 'whole')
  const app = await house()
  const engine = await createEngine({ app, data: whole, report: () => {} })
  await engine.submit('add', { box: 'a' }, { requestId: 'r1' })
  await engine.close()
  const folders = ['log', 'log/p0000', 'state', 'state/0', 'code', 'promotions', 'audit']
  const files = [
    'lock',
    'lock.json',
    'signer.pem',
    'log/meta.json',
    'state/run.json',
    'state/deriving.lock',
    'state/folding.json',
    'state/generations.json',
    'state/tries',
  ]
  files.push('log/p0000/00000000-0000000000000000.segment', 'state/0/data.mdb')
  for (const name of [...folders, ...files]) {
    const data = join(home, 'damaged')
    await cp(whole, data, { recursive: true })
    await rm(join(data, name), { recursive: true, force: true })
    if (folders.includes(name)) await writeFile(join(data, name), 'x')
    else await mkdir(join(data, name), { recursive: true })
    const { ok, findings } = await doctor({ data })
    const wrong = findings.filter(({ level }) => level === 'wrong')
    assert.deepEqual([ok, wrong.map(({ code }) => code)], [false, ['file-misplaced']], name)
    await assert.rejects(
      createEngine({ app, data, report: () => {} }),
      ({ code, message }: HenceError) => code === 'file-misplaced' && message === wrong[0]!.message,
      name,
    )
    await rm(data, { recursive: true })
  }
})
