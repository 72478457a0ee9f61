import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { HenceError } from 'hence'
import { backup, doctor, restore, verify } from 'hence/offline'
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
  await killedBackup(data, to, 'copy', 60 * 1024)
  const copied = join(to, 'log/p0000')
  const before = (await readdir(copied)).filter((name) => name.endsWith('.segment'))
  assert.ok(before.length > 1, `${before.length} segments were copied`)
  const inode = async () => (await stat(join(copied, before[0]!))).ino
  const first = await inode()
  await assert.rejects(verify({ data: to }), { code: 'copy-unfinished' }, 'a part is no backup')

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

test(crashAt('backup', 'a part of a copy never starts, and the next call goes on'), async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-part-'))
  t.after(() => rm(home, { recursive: true }))
  const data = join(home, 'data')
  const engine = await openTill(data)
  for (const id of ['a', 'b']) await engine.submit('pay', { till: id, town: id, cents: 1 }, { requestId: id })
  await engine.close()
  const parts: { [name: string]: (to: string) => Promise<unknown> } = {
    'before a byte is copied': (to) => killedBackup(data, to, 'copy', 0),
    'all copied, not checked': (to) => killedBackup(data, to, 'verify', 0),
    'the note is torn': async (to) => {
      await killedBackup(data, to, 'copy', 0)
      const note = await readFile(join(to, 'unfinished.json'))
      await rm(to, { recursive: true })
      await mkdir(to)
      await writeFile(join(to, 'unfinished.json'), note.subarray(0, 9))
    },
  }
  for (const [name, make] of Object.entries(parts)) {
    const to = join(home, name)
    await make(to)
    const { findings } = await doctor({ data: to })
    const [first] = findings.filter(({ level }) => level === 'wrong')
    assert.equal(first?.code, 'copy-unfinished', name)
    await assert.rejects(
      openTill(to),
      ({ code, message }: HenceError) => code === first?.code && message === first.message,
      name,
    )
    const other = join(home, 'other')
    await assert.rejects(verify({ data: to }), { code: 'copy-unfinished' }, name)
    await assert.rejects(restore({ from: to, to: other }), { code: 'copy-unfinished' }, name)
    assert.ok((await restore({ from: data, to })).ok, name)
    const again = await openTill(to)
    assert.equal((await again.scan('tills')).length, 2, name)
    await again.close()
  }
})

test('a part that cannot be read is not taken for a missing one', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'hence-unreadable-'))
  t.after(() => rm(home, { recursive: true }))
  const [data, to] = [join(home, 'data'), join(home, 'to')]
  await (await openTill(data)).close()
  for (const name of ['code', 'promotions', 'audit']) {
    await rm(join(data, name), { recursive: true, force: true })
    // Like a disk that fails, it gives an error that is not "no such file".
    await symlink(name, join(data, name))
    await assert.rejects(backup({ data, to }), { code: 'file-unusable' }, name)
    assert.deepEqual(await readdir(to), [], name)
    await rm(join(data, name))
  }
  await symlink('unfinished.json', join(to, 'unfinished.json'))
  await assert.rejects(openTill(to), { code: 'file-unusable' }, 'it may be a part of a copy')
})

/** It is killed once a step has done so much. */
async function killedBackup(data: string, to: string, step: string, done: number): Promise<void> {
  const program = fileURLToPath(import.meta.resolve('./backup-process.ts'))
  const child = fork(program, [data, to, step, String(done)], { execArgv: ['-C', 'hence-source'] })
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
}
