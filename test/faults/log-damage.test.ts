import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { HenceError, type Report } from 'hence'
import type { Disk } from '../../src/log/file-log/disk.ts'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { diskWith, filesOf, newDisk } from './disk-files.ts'

// The files of a small log are cut at every byte, changed in every byte, and removed. Then the log holds what
// was written, or is refused with file and byte; it never loses a record silently. Only the last batch before
// a crash may be torn or damaged without a way to know: it may go, with a report and a copy of its bytes.
//
// There are thousands of cases, so the files are in memory; some run on the real disk too.

type Files = ReadonlyMap<string, Buffer>

/** How many bits of each byte are flipped, one at a time. */
const bits = Number(process.env['HENCE_BITS'] ?? 1)
const partitions = 2
const logId = '00112233445566778899aabbccddeeff'
const options = { directory: '/data', segmentBytes: 600, sealAfterMs: 60_000, report: () => {} }

interface Sample {
  readonly files: Files
  /** All records, by partition. */
  readonly sent: readonly string[][]
  /** How many of them are in the last batch. */
  readonly lastBatch: readonly number[]
}

/** Writes a log of several segments, closed or as a killed process leaves it. */
async function sample(closed: boolean, newLogId = logId): Promise<Sample> {
  const disk = newDisk()
  const log = await openFileLog({ ...options, disk, partitions, newLogId })
  const sent: string[][] = [[], []]
  const lastBatch = [0, 0]
  for (let index = 0; index < 9; index++) {
    const texts = [`record ${index}`, 'x'.repeat(index * 4)]
    const partition = index % partitions
    await log.append(
      partition,
      texts.map((text) => Buffer.from(text)),
    )
    sent[partition]!.push(...texts)
    lastBatch[partition] = texts.length
  }
  if (closed) await log.close()
  const files = await filesOf(disk, '/data/log')
  if (!closed) await log.close()
  assert.ok(files.size > 5, 'there are several segments')
  return { files, sent, lastBatch }
}

/** Returns all records by partition, or the error that refused them. */
async function read(
  disk: Disk | undefined,
  directory: string,
  reports: Report[],
): Promise<string[][] | HenceError> {
  try {
    const log = await openFileLog({
      ...options,
      directory,
      report: (each) => reports.push(each),
      ...(disk && { disk }),
    })
    try {
      const found = []
      for (let partition = 0; partition < log.partitions; partition++) {
        const records = []
        for await (const batch of log.read(partition, 0)) records.push(...batch.records.map(String))
        found.push(records)
      }
      return found
    } finally {
      await log.close()
    }
  } catch (error) {
    if (error instanceof HenceError) return error
    throw error
  }
}

type Fate = 'kept' | 'refused' | 'torn'

/** Opens the log after one of its files changed, and returns the result. */
async function fateOf(of: Sample, changed: Files, file: string, what: string): Promise<Fate> {
  const disk = await diskWith(changed)
  const reports: Report[] = []
  const found = await read(disk, '/data', reports)
  const where = `${what} of ${file}`
  if (found instanceof HenceError) {
    assert.equal(found.advice, 'operator')
    const names = found.code === 'log-damaged' && /byte \d+/.test(found.message)
    assert.ok(names || found.code === 'log-format-unknown', `${where}: ${found.code}: ${found.message}`)
    assert.ok(found.message.includes(dirname(file)), `${where}: it names another place: ${found.message}`)
    return 'refused'
  }
  const torn = /p(\d{4})/.exec(file)
  const partition = torn ? Number(torn[1]) : 0
  const left = of.sent.map((texts, index) =>
    index === partition && found[index]!.length < texts.length
      ? texts.slice(0, -of.lastBatch[index]!)
      : texts,
  )
  assert.deepEqual(found, left, `${where}: records were lost or changed`)
  if (found[partition]!.length === of.sent[partition]!.length) return 'kept'
  assert.deepEqual(
    reports.map(({ code }) => code),
    ['log-torn-tail'],
    `${where}: records were lost silently`,
  )
  assert.ok(reports[0]!.message.includes(basename(file)), `${where}: ${reports[0]!.message}`)
  return 'torn'
}

/** Every tried damage: the file, the change, its position, and the files afterwards. */
function* damages(
  files: Files,
): Iterable<[file: string, what: 'cut' | 'bit' | 'gone', place: number, Files]> {
  for (const [file, bytes] of files) {
    const without = new Map(files)
    without.delete(file)
    yield [file, 'gone', 0, without]
    for (let size = 0; size < bytes.length; size++) {
      yield [file, 'cut', size, new Map(files).set(file, bytes.subarray(0, size))]
    }
    // After the last batch all bytes are zero; a few of them are enough.
    const end = Math.min(bytes.length, bytes.findLastIndex((byte) => byte !== 0) + 3)
    for (let at = 0; at < end; at++) {
      for (let bit = at; bit < at + bits; bit++) {
        const turned = Buffer.from(bytes)
        turned[at]! ^= 1 << (bit & 7)
        yield [file, 'bit', at * 8 + (bit & 7), new Map(files).set(file, turned)]
      }
    }
  }
}

for (const closed of [true, false]) {
  test(`a log that was ${closed ? 'closed' : 'left by a killed process'}: every cut, every byte, every file gone`, async (t) => {
    const whole = await sample(closed)
    assert.deepEqual(await read(await diskWith(whole.files), '/data', []), whole.sent)
    const counts = { kept: 0, refused: 0, torn: 0 }
    for (const [file, what, place, files] of damages(whole.files)) {
      counts[await fateOf(whole, files, file, `${what} ${place}`)]++
    }
    t.diagnostic(JSON.stringify(counts))
    assert.ok(counts.refused > 1_000 * bits, JSON.stringify(counts))
    if (closed) assert.equal(counts.torn, 0, 'a batch that is sealed is never taken for torn')
    else assert.ok(counts.torn > 100 * bits, JSON.stringify(counts))
  })
}

test('a torn end is copied aside before it is cut off', async () => {
  const whole = await sample(false)
  const file = [...whole.files.keys()]
    .filter((path) => path.includes('p0001') && path.endsWith('.segment'))
    .at(-1)!
  const bytes = whole.files.get(file)!
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1
  const cut = Buffer.concat([bytes.subarray(0, end - 3), Buffer.alloc(bytes.length - end + 3)])
  const disk = await diskWith(new Map(whole.files).set(file, cut))
  const reports: Report[] = []
  await read(disk, '/data', reports)
  const copies = [...(await filesOf(disk, '/data/log/torn')).entries()]
  assert.equal(copies.length, 1)
  const [path, copy] = copies[0]!
  assert.ok(reports[0]!.message.includes(path), reports[0]!.message)
  assert.ok(cut.includes(copy.subarray(0, 100)), 'the copy holds the removed bytes')
  assert.ok(copy.length >= 100)
})

test('a segment of another log or another partition is refused', async () => {
  const whole = await sample(true)
  const other = await sample(true, 'ffeeddccbbaa99887766554433221100')
  const segments = [...whole.files.keys()].filter((path) => path.endsWith('.segment'))
  for (const file of segments) {
    const foreign = other.files.get(file)
    assert.ok(foreign, `the other log has a ${file} too`)
    assert.equal(
      await fateOf(whole, new Map(whole.files).set(file, foreign), file, 'another log’s'),
      'refused',
    )
    const neighbour = file.replace(/p000(\d)/, (_, digit) => `p000${1 - Number(digit)}`)
    const bytes = whole.files.get(neighbour)
    if (bytes === undefined) continue
    assert.equal(
      await fateOf(whole, new Map(whole.files).set(file, bytes), file, 'another partition’s'),
      'refused',
    )
  }
})

test('the same on the real disk, for each file in the middle', async () => {
  const home = await mkdtemp(join(tmpdir(), 'hence-damage-'))
  try {
    const sent: string[][] = [[], []]
    const log = await openFileLog({ directory: home, partitions, segmentBytes: 600, sealAfterMs: 60_000 })
    for (let index = 0; index < 9; index++) {
      await log.append(index % partitions, [Buffer.from(`record ${index}`)])
      sent[index % partitions]!.push(`record ${index}`)
    }
    await log.close()
    const names = await readdir(join(home, 'log'), { recursive: true, withFileTypes: true })
    for (const entry of names.filter((each) => each.isFile() && each.name !== 'spare')) {
      const path = join(entry.parentPath, entry.name)
      const bytes = await readFile(path)
      const used = bytes.findLastIndex((byte) => byte !== 0)
      for (const damage of ['cut', 'bit'] as const) {
        if (damage === 'cut') {
          await truncate(path, used >> 1)
        } else {
          const turned = Buffer.from(bytes)
          turned[used >> 1]! ^= 16
          await writeFile(path, turned)
        }
        const found = await read(undefined, home, [])
        assert.ok(found instanceof HenceError, `${damage} of ${path} went unnoticed`)
        assert.equal(found.code, 'log-damaged')
        await writeFile(path, bytes)
      }
    }
    assert.deepEqual(await read(undefined, home, []), sent)
  } finally {
    await rm(home, { recursive: true })
  }
})
