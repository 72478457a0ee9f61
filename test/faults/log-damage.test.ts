import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { HenceError } from 'hence'
import { openFileLog } from '../../src/log/file-log/file-log.ts'

// A small log whose files are shortened at every byte and changed in every bit. What is left must be what was
// written, whole, or a refusal that names file and byte. Never a silent loss.

const partitions = 2
let home: string
let sealed: string
let files: string[]
const sent: string[][] = [[], []]

before(async () => {
  home = await mkdtemp(join(tmpdir(), 'hence-damage-'))
  sealed = join(home, 'sealed')
  const log = await openFileLog({ directory: sealed, partitions, segmentBytes: 600, sealAfterMs: 60_000 })
  for (let index = 0; index < 9; index++) {
    const texts = [`record ${index}`, 'x'.repeat(index * 4)]
    await log.append(
      index % partitions,
      texts.map((text) => Buffer.from(text)),
    )
    sent[index % partitions]!.push(...texts)
  }
  await log.close()
  const names = await readdir(join(sealed, 'log'), { recursive: true, withFileTypes: true })
  files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  assert.ok(files.length > 5, 'there are several segments')
})

after(() => rm(home, { recursive: true }))

/** All records by partition, or the error that refused them. */
async function read(directory: string): Promise<string[][] | HenceError> {
  try {
    const log = await openFileLog({ directory, sealAfterMs: 60_000, report: () => {} })
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

function check(found: string[][] | HenceError, file: string, what: string): 'kept' | 'refused' {
  if (!(found instanceof HenceError)) {
    assert.deepEqual(found, sent, `${what} of ${file}: records were lost or changed without a word`)
    return 'kept'
  }
  const names = found.code === 'log-damaged' && /byte \d+/.test(found.message)
  assert.ok(
    names || found.code === 'log-format-unknown',
    `${what} of ${file}: ${found.code}: ${found.message}`,
  )
  assert.equal(found.advice, 'operator')
  return 'refused'
}

test('the log as it was closed is whole', async () => {
  assert.deepEqual(await read(sealed), sent)
})

test('every file cut at every byte', async () => {
  const copy = join(home, 'cut')
  const counts = { kept: 0, refused: 0 }
  for (const file of files) {
    const there = file.replace(sealed, copy)
    const { length } = await readFile(file)
    for (let size = 0; size < length; size++) {
      await rm(copy, { recursive: true, force: true })
      await cp(sealed, copy, { recursive: true })
      await truncate(there, size)
      counts[check(await read(copy), there, `byte ${size}`)]++
    }
  }
  assert.ok(counts.refused > 1_000, JSON.stringify(counts))
})

test('every bit of every file turned', async () => {
  const copy = join(home, 'turned')
  await cp(sealed, copy, { recursive: true })
  const counts = { kept: 0, refused: 0 }
  for (const file of files) {
    const there = file.replace(sealed, copy)
    const bytes = await readFile(file)
    // Behind the last batch stand zeros, all alike: some of them are enough.
    const end = Math.min(bytes.length, bytes.findLastIndex((byte) => byte !== 0) + 3)
    for (let bit = 0; bit < end * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      await writeFile(there, bytes)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      const fate = check(await read(copy), there, `bit ${bit}`)
      counts[fate]++
      if (fate === 'kept') {
        // It was mended, or sealed anew.
        await rm(copy, { recursive: true })
        await cp(sealed, copy, { recursive: true })
      }
    }
    await writeFile(there, bytes)
  }
  assert.ok(counts.refused > 5_000, JSON.stringify(counts))
})

test('every file taken away', async () => {
  const copy = join(home, 'gone')
  for (const file of files) {
    await rm(copy, { recursive: true, force: true })
    await cp(sealed, copy, { recursive: true })
    const there = file.replace(sealed, copy)
    await rm(there)
    check(await read(copy), there, 'the absence')
  }
})
