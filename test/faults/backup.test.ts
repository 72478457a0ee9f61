import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { backup, verify } from 'hence/offline'
import { crashAt } from '../crash-points.ts'
import { openTill } from './till-engine.ts'

test(crashAt('backup', 'the next call goes on, and also copies what was written since'), async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-backup-'))
  t.after(() => rm(home, { recursive: true }))
  const [data, to] = [join(home, 'data'), join(home, 'to')]
  let sent = 0
  const write = async (count: number) => {
    const engine = await openTill(data)
    const pay = () => {
      const input = { till: `till ${sent % 9}`, town: `town ${sent % 9}`, cents: 1 }
      return engine.submit('pay', input, { requestId: `r${sent++}` })
    }
    await Promise.all(Array.from({ length: count }, pay))
    await engine.close()
  }
  await write(500)
  const child = fork(
    fileURLToPath(import.meta.resolve('./backup-process.ts')),
    [data, to, String(60 * 1024)],
    { execArgv: ['-C', 'hence-source'] },
  )
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
  const copied = join(to, 'log/p0000')
  const before = (await readdir(copied)).filter((name) => name.endsWith('.segment'))
  assert.ok(before.length > 1, `${before.length} segments were copied`)
  const inode = async () => (await stat(join(copied, before[0]!))).ino
  const first = await inode()
  await assert.rejects(verify({ data: to }), { code: 'no-log' }, 'a part is no backup')
  await assert.rejects(backup({ data: to, to: join(home, 'other') }), { code: 'no-log' })

  await write(300)
  const { ok, records } = await backup({ data, to })
  const { records: all } = await verify({ data })
  assert.deepEqual([ok, records], [true, all])
  assert.equal(await inode(), first, 'what was copied stays')
  const names = await readdir(to, { recursive: true })
  assert.deepEqual(
    names.filter((name) => name.includes('unfinished')),
    [],
  )
  assert.deepEqual((await verify({ data: to })).flaws, [])
})
