import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'
import { copyFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { bundleApp, createEngine, type HenceError, systemClock } from 'hence'
import { doctor, verify } from 'hence/offline'
import { withFileFailure } from '../../src/file-failure.ts'
import type { Report } from '../../src/report.ts'
import { openDirectory } from '../../src/storage/storage.ts'
import type poison from '../apps/poison.ts'
import { smallDisk } from '../small-disk.ts'

// A real file system, filled to the brim under a running engine.

test('on a full disk requests are refused, reads go on, and writing goes on by itself once there is space', async (t) => {
  const disk = await smallDisk(t, 4_096)
  if (disk === undefined) return t.skip('this process may not mount a file system')
  const app = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))
  const data = join(disk, 'data')
  const reports: Report[] = []
  const open = () =>
    createEngine({ app, data, checkpointRows: 100, report: (report) => void reports.push(report) })
  const engine = await open()
  const accepted = new Set<string>()
  const count = async (id: string): Promise<string> => {
    try {
      await engine.submit('count', { jar: id }, { requestId: id })
      accepted.add(id)
      return 'accepted'
    } catch (error) {
      return (error as HenceError).code
    }
  }
  const many = (from: number) => Promise.all(Array.from({ length: 50 }, (_, i) => count(`jar-${from + i}`)))
  await many(0)

  const filling = join(disk, 'filling')
  await writeFile(filling, Buffer.alloc(8 * 1024 * 1024)).catch(() => {})
  const codes = new Set<string>()
  let sent = 50
  for (; !codes.has('writes-held-up'); sent += 50) for (const code of await many(sent)) codes.add(code)
  assert.deepEqual([...codes].filter((code) => code !== 'accepted').sort(), [
    'log-write-failed',
    'writes-held-up',
  ])
  const health = await engine.health()
  assert.equal(health.ready, false)
  assert.equal(health.ready === false && health.code, 'writes-held-up')
  assert.deepEqual(await engine.get('counts', ['jar-0']), { n: 1 })
  const alarms = reports.filter(({ code }) => code === 'writes-held-up')
  assert.equal(alarms.length, 1)

  await rm(filling)
  // Nobody sends anything meanwhile.
  while (!(await engine.health()).ready) await new Promise(setImmediate)
  assert.equal(reports.filter(({ code }) => code === 'writes-resumed').length, 1)
  for (let from = 0; from < sent; from += 50) {
    for (const code of await many(from)) assert.equal(code, 'accepted')
  }
  assert.equal(accepted.size, sent)
  for (const id of accepted) assert.deepEqual(await engine.get('counts', [id]), { n: 1 })
  const digest = await engine.digest()
  await engine.close()
  const reopened = await open()
  assert.equal(await reopened.digest(), digest)

  // A full disk does not keep it from closing either.
  await writeFile(filling, Buffer.alloc(8 * 1024 * 1024)).catch(() => {})
  for (let i = 0; i < 4; i++)
    await reopened.submit('count', { jar: `last-${i}` }, { requestId: `last-${i}` }).catch(() => {})
  await reopened.close()
})

for (const audit of [false, true]) {
  const name = `starts on a full disk${audit ? ', with audit,' : ''} serve reads, and write once there is space`
  test(name, async (t) => {
    const disk = await smallDisk(t, 8_192)
    if (disk === undefined) return t.skip('this process may not mount a file system')
    const app = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))
    const data = join(disk, 'data')
    const open = () => createEngine({ app, data, audit, report: () => {} })
    const first = await open()
    for (let i = 0; i < 50; i++) await first.submit('count', { jar: 'a' }, { requestId: `a-${i}` })
    await first.close()
    const filling = join(disk, 'filling')
    await writeFile(filling, Buffer.alloc(16 * 1024 * 1024)).catch(() => {})
    const accepted: string[] = []
    for (let start = 0; start < 4; start++) {
      assert.equal((await doctor({ data })).ok, true, 'doctor says that it starts')
      if (start === 3) await rm(filling)
      const engine = await open()
      assert.deepEqual(await engine.get('counts', ['a']), { n: 50 })
      for (let i = 0; i < 20; i++) {
        const jar = `${start}-${i}`.padEnd(900, '.')
        const sent = engine.submit('count', { jar }, { requestId: `b-${start}-${i}` })
        const code = await sent.then(
          () => accepted.push(jar),
          ({ code }: HenceError) => code,
        )
        assert.ok(
          typeof code === 'number' || ['log-write-failed', 'writes-held-up'].includes(code),
          `${code}`,
        )
      }
      for (const jar of accepted) assert.deepEqual(await engine.get('counts', [jar]), { n: 1 })
      await engine.close()
    }
    assert.ok(accepted.length >= 20 && accepted.length < 80, `${accepted.length} were accepted`)
    assert.deepEqual((await verify({ data })).flaws, [])
  })
}

test('a start after a crash derives what it cannot note on a full disk', async (t) => {
  const disk = await smallDisk(t, 8_192)
  if (disk === undefined) return t.skip('this process may not mount a file system')
  const app = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))
  const data = join(disk, 'data')
  const reports: Report[] = []
  const report = (report: Report) => void reports.push(report)
  const engine = await createEngine({ app, data, partitions: 2, report })
  for (let i = 0; i < 20; i++) await engine.submit('count', { jar: `a${i % 3}` }, { requestId: `${i}` })
  const digest = await engine.digest()
  await engine.close()
  // As if the process had died before its first checkpoint.
  await rm(join(data, 'state/0'), { recursive: true })
  await rm(join(data, 'reserve'))
  const note = join(data, 'state/run.json')
  await writeFile(note, '{}')
  const storage = await openDirectory({ directory: data, partitions: 2, clock: systemClock, report })
  const read = storage.log.read.bind(storage.log)
  storage.log.read = (...from) => {
    // A file that has no bytes needs space for its first ones.
    truncateSync(note)
    try {
      writeFileSync(join(disk, 'filling'), Buffer.alloc(16 * 1024 * 1024))
    } catch {}
    assert.throws(() => writeFileSync(join(disk, 'more'), 'x'), { code: 'ENOSPC' })
    return read(...from)
  }
  const started = await createEngine({ app, data: storage, report } as never)
  assert.equal(await started.digest(), digest)
  await started.close()
  assert.deepEqual(
    reports.map(({ code }) => code),
    ['checkpoint-failed'],
  )
})

test('on a read-only disk an error says that, and of which file', async (t) => {
  const disk = await smallDisk(t, 8_192)
  if (disk === undefined) return t.skip('this process may not mount a file system')
  const app = await bundleApp<typeof poison>(new URL('../apps/poison.ts', import.meta.url))
  const data = join(disk, 'data')
  const open = () => createEngine({ app, data, report: () => {} })
  await (await open()).close()
  execFileSync('mount', ['-o', 'remount,ro', disk])
  const says = (code: string, path: string) => (error: HenceError) =>
    error.code === code && error.message.startsWith(`${path} cannot be used: the disk is read-only (EROFS).`)
  await assert.rejects(open(), says('file-unusable', join(data, 'lock')))
  const copy = join(disk, 'copy')
  await assert.rejects(withFileFailure(copyFile(import.meta.filename, copy)), says('file-unusable', copy))
})
