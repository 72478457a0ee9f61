import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Auditor } from '../../src/audit/auditor.ts'
import { readHeads } from '../../src/audit/head-file.ts'
import { checkReceipt } from '../../src/audit/receipt.ts'
import { systemClock } from '../../src/clock.ts'
import type { HenceError } from '../../src/failure.ts'
import { memoryLog } from '../../src/log/memory-log.ts'
import type { Report } from '../../src/report.ts'
import { smallDisk } from '../small-disk.ts'

// A real file system of a few pages, filled to the brim.

test('a full disk holds the signing up, and does not end it', async (t) => {
  const disk = await smallDisk(t, 64)
  if (disk === undefined) return t.skip('this process may not mount a file system')
  const folder = join(disk, 'audit')
  const log = memoryLog()
  const reports: Report[] = []
  const report = (each: Report) => void reports.push(each)
  const auditor = await Auditor.open({ log, folder, clock: systemClock, report })
  const append = (count: number) =>
    log.append(
      0,
      Array.from({ length: count }, (_, i) => Buffer.from(`record ${i} of ${count}`)),
    )
  await append(1)
  await auditor.receipt(0, 0)

  const filling = writeFile(join(disk, 'filling'), Buffer.alloc(1024 * 1024))
  await assert.rejects(filling, { code: 'ENOSPC' })
  // More than the rest of a page: part of it is written.
  await append(300)
  for (let i = 0; i < 3; i++) {
    await assert.rejects(auditor.receipt(0, 300), (error: HenceError) => error.code === 'audit-held-up')
  }
  assert.deepEqual(
    reports.map(({ level, code }) => [level, code]),
    [['warning', 'audit-held-up']],
    'a long trouble is reported once',
  )

  await rm(join(disk, 'filling'))
  checkReceipt(auditor.publicKey, await auditor.receipt(0, 300))
  await append(1)
  await auditor.close()
  const sizes = []
  for await (const head of readHeads(join(folder, 'heads.ndjson'))) sizes.push(head.partitions[0]!.size)
  assert.deepEqual(sizes, [1, 301, 302])

  // The kept hashes are whole: nothing is derived again.
  const again = await Auditor.open({ log, folder, clock: systemClock, report })
  checkReceipt(again.publicKey, await again.receipt(0, 150))
  await again.close()
  assert.equal(reports.length, 1)
})
