import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { logConformance } from '../../../test/log-conformance.ts'
import { HenceError } from '../../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../carrier.ts'
import { type FileLog, openFileLog } from './file-log.ts'

// The chain over a carrier, and the local copy of it. The worst result would be a record that was
// acknowledged and is not live, or two machines that hold different chains.

const home = await mkdtemp(join(tmpdir(), 'hence-carried-'))
after(() => rm(home, { recursive: true, force: true }))
let places = 0
const newPlace = () => join(home, String(++places))

/** The fate of an append: the batch is lost, or comes at once, or when the test lets it. */
type Fate = 'lost' | 'there' | 'late' | 'twice' | undefined

class MemoryCarrier implements Carrier {
  readonly name = 'memory'
  batchBytesMax = 64 * 1024 * 1024 + 1024
  readonly batches: Buffer[][] = Array.from({ length: 8 }, () => [])
  readonly late: (() => void)[] = []
  readonly #kept = new Map<string, Buffer>()
  /** Decides what becomes of an append. */
  fate: (batch: CarrierBatch) => Fate = () => undefined
  #facts: CarrierFacts | undefined

  async facts(made?: CarrierFacts): Promise<CarrierFacts | undefined> {
    this.#facts ??= made
    return this.#facts
  }

  async append(partition: number, batch: CarrierBatch, _expected: number): Promise<number | undefined> {
    const bytes = Buffer.from(batch.bytes)
    const put = () => this.batches[partition]!.push(bytes) - 1
    const fate = this.fate(batch)
    if (fate === undefined) return put()
    if (fate === 'twice') {
      put()
      return put()
    }
    if (fate === 'there') put()
    if (fate === 'late') this.late.push(put)
    throw new HenceError('carrier-unreachable', 'retry', `The answer was lost (${fate}).`)
  }

  async *read(partition: number, from: number): AsyncGenerator<CarriedBatch> {
    for (let position = from; position < this.batches[partition]!.length; position++)
      yield { position, bytes: this.batches[partition]![position]! }
  }

  async end(partition: number): Promise<number> {
    return this.batches[partition]!.length
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    this.#kept.set(name, Buffer.from(bytes))
  }

  async get(name: string): Promise<Buffer | undefined> {
    return this.#kept.get(name)
  }

  async close(): Promise<void> {}
}

const quiet = { report: () => {}, sealAfterMs: 60_000, segmentBytes: 2048 }
const open = (carrier: Carrier, directory = newPlace(), more: object = {}) =>
  openFileLog({ directory, carrier, partitions: 1, ...quiet, ...more })

const bytesOf = (text: string) => [Buffer.from(text)]

async function contents(log: FileLog, partition = 0): Promise<string[]> {
  const found: string[] = []
  for await (const { records } of log.read(partition, 0)) found.push(...records.map(String))
  return found
}

/** Appends a record, after as many failures as it takes. */
async function appended(log: FileLog, text: string): Promise<void> {
  while (!(await contents(log)).includes(text)) await log.append(0, bytesOf(text)).catch(() => {})
}

/** All files of the segments of a directory, by name. */
function segmentsOf(directory: string): Record<string, Buffer> {
  const folder = join(directory, 'log/p0000')
  const names = readdirSync(folder).filter((name) => name.endsWith('.segment'))
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name))]))
}

const failsWith = (code: string) => (error: unknown) => error instanceof HenceError && error.code === code

const carriers = new Map<string, MemoryCarrier>()
logConformance('file log over a carrier', {
  durable: true,
  newPlace: async () => newPlace(),
  open: (directory, options) => {
    const carrier = carriers.get(directory) ?? new MemoryCarrier()
    carriers.set(directory, carrier)
    return openFileLog({ ...quiet, ...options, directory, carrier })
  },
})

logConformance('file log over a carrier, each time on a new machine', {
  durable: true,
  newPlace: async () => newPlace(),
  open: (place, options) => {
    const carrier = carriers.get(place) ?? new MemoryCarrier()
    carriers.set(place, carrier)
    return openFileLog({ ...quiet, ...options, directory: newPlace(), carrier })
  },
})

test('every machine has the same bytes, whoever wrote them and however large they are', async () => {
  const carrier = new MemoryCarrier()
  const [first, second, third] = [newPlace(), newPlace(), newPlace()]
  const writer = await open(carrier, first)
  const follower = await open(carrier, second, { follow: true })
  for (const [index, size] of [10, 900, 700, 5_000, 20, 3_000, 1_900, 1].entries()) {
    await writer.append(0, [Buffer.alloc(size, index)])
    if (index % 2 === 0) await follower.catchUp()
  }
  await writer.close()
  await follower.catchUp()
  assert.deepEqual(segmentsOf(second), segmentsOf(first))
  await follower.claim()
  await follower.append(0, bytesOf('of the second machine'))
  await follower.close()
  const again = await open(carrier, first, { follow: true })
  const late = await open(carrier, third, { follow: true })
  assert.equal((await contents(again)).at(-1), 'of the second machine')
  assert.deepEqual(segmentsOf(first), segmentsOf(second))
  assert.deepEqual(segmentsOf(third), segmentsOf(second))
  assert.equal(await late.end(0), 9)
  await again.close()
  await late.close()
})

test('an append without an answer is in the log whole or not at all, and the next read says which', async () => {
  for (const fate of ['there', 'lost', 'late'] as const) {
    const carrier = new MemoryCarrier()
    const log = await open(carrier)
    await log.append(0, bytesOf('before'))
    carrier.fate = () => fate
    await assert.rejects(log.append(0, bytesOf('unsure')), failsWith('carrier-unreachable'))
    carrier.fate = () => undefined
    const found = await contents(log)
    assert.deepEqual(found, fate === 'there' ? ['before', 'unsure'] : ['before'])
    // It comes after this process has said that it is not there: it must be dead for everybody.
    for (const put of carrier.late.splice(0)) put()
    await appended(log, 'after')
    assert.deepEqual(await contents(log), [...found, 'after'])
    await log.close()
    const other = await open(carrier)
    assert.deepEqual(await contents(other), [...found, 'after'])
    await other.close()
  }
})

test('a seal without an answer, several times in a row, leaves nothing open', async () => {
  const carrier = new MemoryCarrier()
  const log = await open(carrier)
  let left = 6
  carrier.fate = () => (left-- > 0 ? (['late', 'lost', 'there'] as const)[left % 3] : undefined)
  await assert.rejects(log.append(0, bytesOf('one')), failsWith('carrier-unreachable'))
  while (left > 0) await assert.rejects(log.end(0), failsWith('carrier-unreachable'))
  const found = await contents(log)
  for (const put of carrier.late.splice(0)) put()
  await appended(log, 'two')
  assert.deepEqual(await contents(log), [...found, 'two'])
  await log.close()
  const other = await open(carrier)
  assert.deepEqual(await contents(other), [...found, 'two'])
  await other.close()
})

test('a batch that is there twice counts once', async () => {
  const carrier = new MemoryCarrier()
  const log = await open(carrier)
  carrier.fate = ({ bytes }) => (bytes.includes('twice') ? 'twice' : undefined)
  // Its position is not the expected one, so nothing is acknowledged before it has been read.
  await assert.rejects(log.append(0, bytesOf('twice')), failsWith('log-write-unsure'))
  assert.deepEqual(await contents(log), ['twice'])
  await log.append(0, bytesOf('then'))
  assert.deepEqual(await contents(log), ['twice', 'then'])
  await log.close()
})

test('whoever takes the log ends the one before, whose last append is dead', async () => {
  const carrier = new MemoryCarrier()
  const first = await open(carrier)
  await first.append(0, bytesOf('of the first'))
  carrier.fate = ({ bytes }) => (bytes.includes('late') ? 'late' : undefined)
  const unsure = first.append(0, bytesOf('late'))
  await assert.rejects(unsure, failsWith('carrier-unreachable'))
  const second = await open(carrier)
  await second.append(0, bytesOf('of the second'))
  for (const put of carrier.late.splice(0)) put()
  for (const use of [
    () => first.append(0, bytesOf('zombie')),
    () => first.end(0),
    () => contents(first),
    () => first.catchUp(),
  ])
    await assert.rejects(use, failsWith('log-taken'))
  assert.deepEqual(await contents(second), ['of the first', 'of the second'])
  await first.close()
  await second.close()
  const third = await open(carrier)
  assert.deepEqual(await contents(third), ['of the first', 'of the second'])
  await third.close()
})

test('a process that another has taken over never acknowledges, though its batch came first', async () => {
  const carrier = new MemoryCarrier()
  const first = await open(carrier)
  const second = await open(carrier, undefined, { follow: true })
  // The first one appends while the second one takes the log: its batch is first, and live.
  await first.append(0, bytesOf('first'))
  await second.claim()
  assert.deepEqual(await contents(second), ['first'])
  await assert.rejects(first.append(0, bytesOf('dead')), failsWith('log-write-unsure'))
  await assert.rejects(first.append(0, bytesOf('dead')), failsWith('log-taken'))
  assert.deepEqual(await contents(second), ['first'])
  await first.close()
  await second.close()
})

test('a process that follows writes nothing until it takes the log', async () => {
  const carrier = new MemoryCarrier()
  const writer = await open(carrier)
  const follower = await open(carrier, undefined, { follow: true })
  await writer.append(0, bytesOf('a'))
  assert.deepEqual(await contents(follower), [])
  await follower.catchUp()
  assert.deepEqual(await contents(follower), ['a'])
  await assert.rejects(follower.append(0, bytesOf('b')), failsWith('log-followed'))
  const count = await carrier.end(0)
  follower.derived?.(0, 1)
  await follower.close()
  assert.equal(await carrier.end(0), count, 'a follower writes no seal')
  await writer.close()
})

test('a copy that has lost its end gets it back', async () => {
  const carrier = new MemoryCarrier()
  const directory = newPlace()
  const log = await open(carrier, directory, { segmentBytes: 20_000 })
  for (let index = 0; index < 40; index++) await log.append(0, [Buffer.alloc(200, index)])
  await log.close()
  const before = segmentsOf(directory)
  const last = Object.keys(before).at(-1)!
  const path = join(directory, 'log/p0000', last)
  const damages = [
    // A loss of power took a page from the middle, and a later one is there.
    () => writeFileSync(path, Buffer.from(before[last]!).fill(0, 300, 500)),
    () => writeFileSync(path, Buffer.from(before[last]!).fill(0, 100)),
    () => writeFileSync(path, Buffer.from(before[last]!).fill(7, 700, 900)),
    () => rmSync(join(directory, 'log/carrier.json')),
    () => writeFileSync(join(directory, 'log/carrier.json'), 'no JSON'),
  ]
  for (const damage of damages) {
    damage()
    const again = await open(carrier, directory)
    assert.equal(await again.end(0), 40)
    assert.equal((await contents(again)).length, 40)
    await again.close()
    for (const [name, bytes] of Object.entries(before)) {
      const length = name === last ? bytes.findLastIndex((byte) => byte !== 0) : bytes.length
      assert.ok(segmentsOf(directory)[name]!.subarray(0, length).equals(bytes.subarray(0, length)), name)
    }
  }
})

test('a copy that has lost the end of a segment, and has the next one, gets both back', async () => {
  const carrier = new MemoryCarrier()
  const directory = newPlace()
  const log = await open(carrier, directory)
  for (let index = 0; index < 14; index++) await log.append(0, [Buffer.alloc(200, index)])
  await log.close()
  const all = segmentsOf(directory)
  const [, before, last] = Object.keys(all)
  const folder = join(directory, 'log/p0000')
  writeFileSync(join(folder, before!), Buffer.from(all[before!]!).fill(0, 700))
  writeFileSync(join(folder, last!), Buffer.from(all[last!]!).fill(0, 36))
  const again = await open(carrier, directory, { follow: true })
  assert.deepEqual(segmentsOf(directory), all)
  await again.close()
})

test('a carrier that has lost or replaced its end is refused by every copy that remembers it', async () => {
  const carrier = new MemoryCarrier()
  const directory = newPlace()
  const log = await open(carrier, directory)
  const follower = await open(carrier, undefined, { follow: true })
  for (const text of ['a', 'b', 'c']) await log.append(0, bytesOf(text))
  await follower.catchUp()
  const all = [...carrier.batches[0]!]
  carrier.batches[0]!.length = 3
  await assert.rejects(log.append(0, bytesOf('d')), failsWith('carrier-lost-records'))
  await assert.rejects(log.append(0, bytesOf('e')), failsWith('carrier-lost-records'))
  await log.close().catch(() => {})
  await assert.rejects(open(carrier), failsWith('carrier-lost-records'), 'd names a batch that is gone')
  carrier.batches[0]!.length = 3
  const before = segmentsOf(directory)
  await assert.rejects(open(carrier, directory), failsWith('carrier-lost-records'))
  // Another process that knows nothing of the end writes another one.
  const stranger = await open(carrier)
  for (const text of ['x', 'y', 'z', '+']) await stranger.append(0, bytesOf(text))
  await assert.rejects(open(carrier, directory), failsWith('carrier-lost-records'))
  await assert.rejects(follower.catchUp(), failsWith('carrier-lost-records'))
  assert.deepEqual(segmentsOf(directory), before, 'nothing was overwritten')
  await stranger.close()
  carrier.batches[0] = all
  const restored = await open(carrier, directory)
  assert.deepEqual(await contents(restored), ['a', 'b', 'c'])
  await restored.close()
})

test('bytes in the carrier that are no batch of the log stop every reader', async () => {
  for (const bytes of [Buffer.from('junk'), Buffer.alloc(0), Buffer.alloc(300, 1)]) {
    const carrier = new MemoryCarrier()
    const log = await open(carrier)
    await log.append(0, bytesOf('a'))
    carrier.batches[0]!.push(bytes)
    await assert.rejects(open(carrier), failsWith('carrier-damaged'))
    await log.close().catch(() => {})
  }
})

test('a copy is not opened as a log, nor with another log', async () => {
  const [carrier, other] = [new MemoryCarrier(), new MemoryCarrier()]
  const directory = newPlace()
  await (await open(carrier, directory)).close()
  await assert.rejects(openFileLog({ directory, ...quiet }), failsWith('log-is-a-copy'))
  await assert.rejects(open(other, directory), failsWith('log-differs'))
  await (await open(other)).close()
  await assert.rejects(open(other, directory), failsWith('log-differs'))
  await assert.rejects(open(carrier, undefined, { partitions: 2 }), failsWith('partitions-mismatch'))
  await (await open(carrier, directory)).close()
})

test('an append that the carrier has no room for is refused, and appends are gathered up to its limit', async () => {
  const carrier = new MemoryCarrier()
  carrier.batchBytesMax = 1_000
  const log = await open(carrier)
  await assert.rejects(log.append(0, [Buffer.alloc(870)]), failsWith('record-too-large'))
  await log.append(0, [Buffer.alloc(868)])
  await Promise.all(Array.from({ length: 50 }, () => log.append(0, [Buffer.alloc(100), Buffer.alloc(50)])))
  assert.ok(Math.max(...carrier.batches[0]!.map(({ length }) => length)) <= 1_000)
  assert.equal(await log.end(0), 101)
  await log.close()
})
