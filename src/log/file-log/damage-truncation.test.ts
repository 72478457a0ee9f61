import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulatedDisk } from '../../testing/simulated-disk.ts'
import { damageLocation } from './damage.ts'
import { planTruncation, truncatePartition } from './damage-truncation.ts'
import type { Disk } from './disk.ts'
import { openFileLog } from './file-log.ts'
import { readBytes } from './segment-scan.ts'
import { type PartitionSnapshot, readSnapshot, snapshotLog } from './snapshot.ts'

// A person agrees to lose exactly what the plan says. So that is what must be lost, all of it must be copied
// aside, and a crash half-way must lose nothing else.

const records = Array.from({ length: 14 }, (_, i) => `record ${i} ${'x'.repeat(i * 3)}.`)
const options = { directory: '/data', segmentBytes: 600, sealAfterMs: 60_000, report: () => {} }

/** A log of several segments with one changed byte in a record. */
async function damagedAt(index: number, fault?: () => 'crash' | undefined) {
  const disk = simulatedDisk({ random: () => 0.5, ...(fault && { fault }) })
  const log = await openFileLog({ ...options, disk })
  for (const record of records) await log.append(0, [Buffer.from(record)])
  await log.close()
  for (const name of (await disk.list('/data/log/p0000'))!) {
    const file = await disk.open(`/data/log/p0000/${name}`, 'write')
    const at = (await readBytes(file, 0, await file.size())).indexOf(`${records[index]!}`)
    if (at >= 0) {
      await file.write(Buffer.from('X'), at)
      await file.sync('test')
    }
    await file.close()
  }
  return disk
}

/** Returns the readable records, and the damage that ends them. */
async function readAll(
  disk: Disk,
): Promise<{ snapshot: PartitionSnapshot; found: string[]; error: unknown }> {
  const snapshot = (await snapshotLog('/data', disk))!.partitions[0]!
  const found: string[] = []
  try {
    for await (const batch of readSnapshot(snapshot)) found.push(...batch.records.map(String))
    return { snapshot, found, error: undefined }
  } catch (error) {
    return { snapshot, found, error }
  }
}

async function cut(disk: Disk): Promise<Awaited<ReturnType<typeof planTruncation>>> {
  const { snapshot, error } = await readAll(disk)
  const location = damageLocation(error)
  assert.ok(location, `there is damage: ${error}`)
  const plan = await planTruncation(snapshot.files, location)
  if (plan) await truncatePartition(snapshot.files, plan)
  return plan
}

/** Opens the log as a start does, returns its records, and appends one. */
async function start(disk: Disk): Promise<string[]> {
  const log = await openFileLog({ ...options, disk })
  const found: string[] = []
  for await (const batch of log.read(0, 0)) found.push(...batch.records.map(String))
  const { offset } = await log.append(0, [Buffer.from('new')])
  assert.equal(offset, found.length)
  await log.close()
  return found
}

async function keptAside(disk: Disk): Promise<Buffer> {
  const pieces: Buffer[] = []
  for (const folder of ['damaged', 'torn']) {
    for (const name of (await disk.list(`/data/log/${folder}`)) ?? []) {
      const file = await disk.open(`/data/log/${folder}/${name}`, 'read')
      pieces.push(await readBytes(file, 0, await file.size()))
      await file.close()
    }
  }
  return Buffer.concat(pieces)
}

for (const index of records.keys()) {
  test(`damage in record ${index}: the records before it are read and kept, the rest is copied aside`, async () => {
    const disk = await damagedAt(index)
    const { found, error } = await readAll(disk)
    assert.deepEqual(found, records.slice(0, index))
    assert.match(String(error), /damaged/)
    const plan = await cut(disk)
    assert.deepEqual([plan?.from, plan?.to], [index, records.length])
    const aside = await keptAside(disk)
    for (const record of records.slice(index + 1)) assert.ok(aside.includes(record))
    assert.deepEqual((await readAll(disk)).found, records.slice(0, index))
    assert.deepEqual(await start(disk), records.slice(0, index))
    assert.deepEqual((await readAll(disk)).found, [...records.slice(0, index), 'new'])
  })
}

test('a crash or a loss of power at any moment of a truncation leaves a partition that is truncated, or can be', async () => {
  let finished = false
  for (let step = 1; !finished; step++) {
    for (const end of ['endProcess', 'losePower'] as const) {
      let left = Number.POSITIVE_INFINITY
      const disk = await damagedAt(4, () => (left-- === 1 ? 'crash' : undefined))
      left = step
      try {
        await cut(disk)
        finished = left > 0
      } catch (error) {
        if (left > 0) throw error
      }
      left = Number.POSITIVE_INFINITY
      disk[end]()
      const { error } = await readAll(disk)
      if (error !== undefined) assert.ok(await cut(disk), `step ${step}, ${end}: ${error}`)
      const aside = await keptAside(disk)
      assert.deepEqual(await start(disk), records.slice(0, 4), `step ${step}, ${end}`)
      for (const record of records.slice(5)) {
        assert.ok(
          aside.includes(record) || (await keptAside(disk)).includes(record),
          `step ${step}, ${end}: ${record}`,
        )
      }
    }
  }
})

test('damage outside a batch cannot be truncated: a changed segment header, a missing segment', async () => {
  for (const harm of ['header', 'missing'] as const) {
    const disk = await damagedAt(records.length - 1)
    const [first] = (await disk.list('/data/log/p0000'))!.sort() as [string]
    if (harm === 'missing') await disk.remove(`/data/log/p0000/${first}`)
    else {
      const file = await disk.open(`/data/log/p0000/${first}`, 'write')
      await file.write(Buffer.from('?'), 0)
      await file.close()
    }
    const snapshot = (await snapshotLog('/data', disk))!.partitions[0]!
    const location = damageLocation(snapshot.damage)
    assert.ok(location)
    assert.equal(await planTruncation(snapshot.files, location), undefined)
  }
})
