import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomFrom } from '../../../test/random.ts'
import { type Operation, type SimulatedDisk, simulatedDisk } from '../../testing/simulated-disk.ts'
import type { Log } from '../log.ts'
import type { Disk, DiskFile } from './disk.ts'
import { openFileLog } from './file-log.ts'
import { type GrowingLog, openGrowingLog } from './growing-log.ts'
import { readBytes } from './segment-scan.ts'

// One process writes the log, and another one derives from it meanwhile. Worse than an error would be to read
// a record before it is durable, or to miss one: the derived state would differ from the log.

const directory = '/data'
const options = { directory, segmentBytes: 600, sealAfterMs: 0, report: () => {} }

async function both({
  partitions = 1,
  disk = simulatedDisk({ random: () => 0.5 }) as Disk,
  segmentBytes = 600,
  newLogId = '0123456789abcdef0123456789abcdef',
} = {}): Promise<{ disk: Disk; log: Log; growing: GrowingLog }> {
  const log = await openFileLog({ ...options, segmentBytes, partitions, disk, newLogId })
  return { disk, log, growing: await openGrowingLog(directory, disk) }
}

function record(name: number | string, bytes = 20): Buffer {
  return Buffer.from(`${name} `.padEnd(bytes, '.'))
}

/** Returns the records from an offset on, without those before it in the first batch. */
async function readFrom(log: Log, partition: number, from: number): Promise<string[]> {
  const found: string[] = []
  let next: number | undefined
  for await (const { offset, records } of log.read(partition, from)) {
    next ??= offset
    assert.equal(offset, next, 'batches follow each other without a gap')
    next += records.length
    for (const [i, each] of records.entries()) if (offset + i >= from) found.push(`${each}`)
  }
  return found
}

async function segments(disk: Disk, partition = 0): Promise<string[]> {
  const folder = `${directory}/log/p${String(partition).padStart(4, '0')}`
  const names = (await disk.list(folder))!.filter((name) => name.endsWith('.segment'))
  return names.sort().map((name) => `${folder}/${name}`)
}

test('it has the id and the partitions of the log, and refuses appends', async () => {
  const { log, growing } = await both({ partitions: 3 })
  assert.deepEqual([growing.id, growing.partitions], [log.id, 3])
  await assert.rejects(growing.append(0, [record(1)]), /another process/)
})

test('only records before the reported end are read, however long the log is', async () => {
  const { log, growing } = await both()
  const names = Array.from({ length: 60 }, (_, i) => `${record(i)}`)
  for (const name of names) await log.append(0, [Buffer.from(name)])
  assert.deepEqual(await readFrom(growing, 0, 0), [])
  for (let end = 1; end <= names.length; end++) {
    growing.grow([end])
    assert.equal(await growing.end(0), end)
    assert.deepEqual(await readFrom(growing, 0, 0), names.slice(0, end))
  }
})

test('a reading stops at the end reported before it began, and the next one reads the rest', async () => {
  const { log, growing } = await both()
  for (let i = 0; i < 40; i++) await log.append(0, [record(i)])
  growing.grow([21])
  const found: number[] = []
  for await (const { offset } of growing.read(0, 0)) {
    found.push(offset)
    growing.grow([40])
  }
  assert.deepEqual(found, [...Array(21).keys()])
  assert.equal((await readFrom(growing, 0, 21)).length, 19)
})

test('it reads from any offset across all segments made since the last listing', async () => {
  const names = Array.from({ length: 80 }, (_, i) => `${record(i)}`)
  // It has listed the segments of so many records before the others come.
  for (const known of [0, 1, 7, 40]) {
    const { disk, log, growing } = await both()
    for (const name of names.slice(0, known)) await log.append(0, [Buffer.from(name)])
    growing.grow([known])
    await readFrom(growing, 0, 0)
    const before = (await segments(disk)).length
    for (const name of names.slice(known)) await log.append(0, [Buffer.from(name)])
    assert.ok((await segments(disk)).length > before + 3, 'several segments were made since')
    growing.grow([names.length])
    // The later ones first: nothing may depend on having read what stands before.
    for (let from = names.length; from >= 0; from -= 3) {
      assert.deepEqual(await readFrom(growing, 0, from), names.slice(from), `from ${from}, knowing ${known}`)
    }
  }
})

test('a reading from the end is empty, in a new log as well', async () => {
  const { log, growing } = await both()
  assert.deepEqual(await readFrom(growing, 0, 0), [])
  for (let i = 0; i < 30; i++) {
    await log.append(0, [record(i)])
    growing.grow([i + 1])
    assert.deepEqual(await readFrom(growing, 0, i + 1), [])
    assert.deepEqual(await readFrom(growing, 0, i), [`${record(i)}`])
  }
})

test('records, offsets and times equal those that the writer reads, in every partition', async () => {
  const random = randomFrom(5)
  const below = (n: number) => Math.floor(random() * n)
  const partitions = 4
  // Segments with several remembered batch positions, and some batches larger than a segment.
  for (const segmentBytes of [600, 300_000]) {
    const { disk, log, growing } = await both({ partitions, segmentBytes })
    const sent = Array.from({ length: partitions }, () => 0)
    const ends = Array.from({ length: partitions }, () => 0)
    for (let step = 0; step < 250; step++) {
      const partition = below(partitions)
      const bytes = below(segmentBytes / (below(20) === 0 ? 0.5 : 10))
      const records = Array.from({ length: 1 + below(3) }, (_, i) =>
        record(`${partition}:${step}:${i}`, bytes),
      )
      const { offset } = await log.append(partition, records)
      assert.equal(offset, sent[partition])
      sent[partition]! += records.length
      const told = below(partitions)
      // Also in the midst of a batch: there the live generation may stand.
      ends[told]! += below(sent[told]! - ends[told]! + 1)
      growing.grow(ends)
      const from = below(ends[told]! + 1)
      if (from < ends[told]!)
        assert.deepEqual(await firstBatch(growing, told, from), await firstBatch(log, told, from))
    }
    growing.grow(sent)
    for (let partition = 0; partition < partitions; partition++) {
      assert.ok((await segments(disk, partition)).length > 4)
      for (const from of [0, below(sent[partition]!)])
        assert.deepEqual(await batches(growing, partition, from), await batches(log, partition, from))
    }
    await log.close()
  }
})

async function batches(log: Log, partition: number, from: number) {
  const found = []
  for await (const batch of log.read(partition, from)) found.push(batch)
  return found
}

async function firstBatch(log: Log, partition: number, from: number) {
  for await (const batch of log.read(partition, from)) return batch
  return undefined
}

/** A disk whose writes stop half-way while `gate` holds them. */
function halting(disk: SimulatedDisk) {
  const gate: { held?: Promise<void>; reached: PromiseWithResolvers<void> } = {
    reached: Promise.withResolvers<void>(),
  }
  const open = async (path: string, mode: Parameters<Disk['open']>[1]): Promise<DiskFile> => {
    const file = await disk.open(path, mode)
    const write = async (bytes: Buffer, position: number) => {
      const half = gate.held ? Math.floor(bytes.length / 2) : 0
      await file.write(bytes.subarray(0, half), position)
      if (gate.held) gate.reached.resolve()
      await gate.held
      await file.write(bytes.subarray(half), position + half)
    }
    return { ...file, write }
  }
  return { gate, disk: { ...disk, open } as Disk }
}

test('a batch half written after the end is not read, and is no damage', async () => {
  // Small enough that it stands in the piece of the file that is read with the batch before it, and larger
  // than that piece.
  for (const bytes of [40, 200_000]) {
    const { gate, disk } = halting(simulatedDisk({ random: () => 0.5 }))
    const { log, growing } = await both({ disk, segmentBytes: 4_000_000 })
    const names = ['a', 'b', 'c']
    for (const name of names) await log.append(0, [record(name)])
    growing.grow([3])
    const held = Promise.withResolvers<void>()
    gate.held = held.promise
    const appended = log.append(0, [record('d', bytes)])
    await gate.reached.promise
    const before = names.map((name) => `${record(name)}`)
    assert.deepEqual(await readFrom(growing, 0, 0), before)
    assert.deepEqual(await readFrom(growing, 0, 3), [])
    // A reading that began earlier stops at its own end, and leaves none of its buffer to the next.
    const reading = growing.read(0, 0)[Symbol.asyncIterator]()
    await reading.next()
    delete gate.held
    held.resolve()
    await appended
    growing.grow([4])
    let rest = 0
    while (!(await reading.next()).done) rest++
    assert.equal(rest, 2)
    assert.deepEqual(await readFrom(growing, 0, 0), [...before, `${record('d', bytes)}`])
    await log.close()
  }
})

async function change(disk: Disk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, 'write')
  const at = (await readBytes(file, 0, await file.size())).indexOf(text)
  assert.ok(at > 0)
  await file.write(Buffer.from('X'), at)
  await file.close()
}

test('damage before the end is an error, after the records before it', async () => {
  const names = Array.from({ length: 30 }, (_, i) => `${record(`n${i}`)}`)
  for (const at of [0, 1, 11, 29]) {
    const { disk, log, growing } = await both()
    for (const name of names) await log.append(0, [Buffer.from(name)])
    await log.close()
    for (const path of await segments(disk)) {
      const file = await disk.open(path, 'read')
      const isHere = (await readBytes(file, 0, await file.size())).includes(names[at]!)
      await file.close()
      if (isHere) await change(disk, path, names[at]!)
    }
    growing.grow([at])
    assert.deepEqual(
      await readFrom(growing, 0, 0),
      names.slice(0, at),
      'it is not read before it is reported',
    )
    growing.grow([names.length])
    const found: string[] = []
    const reading = async () => {
      for await (const { records } of growing.read(0, 0)) found.push(...records.map(String))
    }
    await assert.rejects(reading, { code: 'log-damaged', advice: 'operator' })
    assert.deepEqual(found, names.slice(0, at))
  }
})

test('a log that ends before the reported end, or lacks a segment, is damaged', async () => {
  const { disk, log, growing } = await both()
  for (let i = 0; i < 30; i++) await log.append(0, [record(i)])
  await log.close()
  growing.grow([31])
  await assert.rejects(readFrom(growing, 0, 0), { code: 'log-damaged' })
  growing.grow([30])
  const anew = await openGrowingLog(directory, disk)
  anew.grow([30])
  await disk.remove((await segments(disk))[2]!)
  await assert.rejects(readFrom(anew, 0, 0), { code: 'log-damaged' })
})

test('a segment of another history does not follow the one before it', async () => {
  const [one, other] = [await both(), await both()]
  for (const [name, { log }] of Object.entries({ one, other })) {
    for (let i = 0; i < 20; i++) await log.append(0, [record(`${name} ${i}`)])
    await log.close()
  }
  const path = (await segments(one.disk))[3]!
  const file = await other.disk.open(path, 'read')
  const bytes = await readBytes(file, 0, await file.size())
  await file.close()
  const changed = await one.disk.open(path, 'write')
  await changed.write(bytes, 0)
  await changed.close()
  one.growing.grow([20])
  await assert.rejects(readFrom(one.growing, 0, 0), { code: 'log-damaged' })
})

test('a segment that a recovery of the writer gave up is forgotten', async () => {
  let isFailing = false
  let before: Operation | undefined
  const fault = (operation: Operation) => {
    const isLastSeal = operation.kind === 'write' && before?.label === 'next segment'
    if (operation.kind === 'sync' || operation.kind === 'write') before = operation
    return isFailing && isLastSeal ? 'fail' : undefined
  }
  const disk = simulatedDisk({ random: () => 0.5, fault })
  const { log, growing } = await both({ disk })
  await log.append(0, [record(0)])
  // The next segment has its name, but the one before it does not say that there is one.
  isFailing = true
  await assert.rejects(log.append(0, [record(1, 400)]), { code: 'log-write-failed' })
  isFailing = false
  const [, givenUp] = await segments(disk)
  assert.ok(givenUp)
  growing.grow([1])
  assert.deepEqual(await readFrom(growing, 0, 0), [`${record(0)}`])
  // Smaller records fit into the first segment after all, so the next one begins later.
  for (let i = 1; i < 30; i++) await log.append(0, [record(i)])
  assert.ok(!(await segments(disk)).includes(givenUp))
  growing.grow([30])
  assert.equal((await readFrom(growing, 0, 1)).length, 29)
  await log.close()
})
