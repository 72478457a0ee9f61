import assert from 'node:assert/strict'
import { chmod, lstat, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, type Report } from 'hence'
import { backup, doctor, restore } from 'hence/offline'
import type app from './till.ts'

// Others than the owner get no access to a data directory, whatever the umask.

test('directories are 0700 and files 0600 under umask 022, and a wider directory is reported', async () => {
  const home = await mkdtemp(join(tmpdir(), 'hence-access-'))
  const data = join(home, 'data')
  const before = process.umask(0o022)
  const reports: Report[] = []
  const open = () =>
    createEngine<typeof app>({
      app: import.meta.resolve('./till.ts'),
      data,
      audit: true,
      report: (each) => reports.push(each),
    })
  try {
    const engine = await open()
    await engine.submit('pay', { town: 'a', till: 'a', cents: 1 }, { requestId: 'first' })
    await engine.close()
    const modes = new Map<string, string>()
    for (const entry of await readdir(data, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      modes.set(path.slice(data.length), ((await lstat(path)).mode & 0o777).toString(8))
      assert.equal(modes.get(path.slice(data.length)), entry.isDirectory() ? '700' : '600', path)
    }
    assert.ok(modes.size > 10, JSON.stringify([...modes]))
    assert.equal((await lstat(data)).mode & 0o777, 0o700)
    assert.deepEqual(reports, [])

    // A copy is as closed, even of files that others may read.
    await writeFile(join(data, 'keys.json'), '{"version":1,"keys":[]}', { mode: 0o644 })
    for (const [from, to] of [
      [data, 'copy'],
      ['copy', 'again'],
    ] as const) {
      const source = from === data ? data : join(home, from)
      await (to === 'copy'
        ? backup({ data: source, to: join(home, to) })
        : restore({ from: source, to: join(home, to) }))
      const names = []
      for (const entry of await readdir(join(home, to), { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name)
        names.push(entry.name)
        assert.equal((await lstat(path)).mode & 0o777, entry.isDirectory() ? 0o700 : 0o600, path)
      }
      assert.equal((await lstat(join(home, to))).mode & 0o777, 0o700)
      for (const name of ['keys.json', 'heads.ndjson', 'public-key.pem', 'meta.json'])
        assert.ok(names.includes(name), name)
    }
    await rm(join(data, 'keys.json'))
    await chmod(join(home, 'copy'), 0o750)
    const backedUp = await doctor({ data: join(home, 'copy') })
    assert.ok(backedUp.findings.some(({ code }) => code === 'data-open-to-others'))

    // The mode of a symbolic link says nothing.
    await symlink(data, join(home, 'link'))
    const linked = async () =>
      (await doctor({ data: join(home, 'link') })).findings.some(({ code }) => code === 'data-open-to-others')
    assert.ok(!(await linked()))

    await chmod(data, 0o755)
    assert.ok(await linked())
    await (await open()).close()
    assert.deepEqual(
      reports.map(({ level, code }) => [level, code]),
      [['warning', 'data-open-to-others']],
    )
    const { ok, findings } = await doctor({ data })
    assert.ok(ok)
    assert.ok(findings.some(({ level, code }) => level === 'warning' && code === 'data-open-to-others'))
  } finally {
    process.umask(before)
    await rm(home, { recursive: true })
  }
})
