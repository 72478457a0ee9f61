import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { type App, type AppBundle, createEngine, type Engine, HenceError } from 'hence'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { type ControlRecord, type CorrectionRecord, decodeRecord } from '../../src/log/record.ts'
import type * as made from '../apps/teller.ts'
import { appsOf } from '../apps.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../apps/teller.ts'))
const teller = await apps.teller()
const louder = await apps.louder()
const silent = await apps.silent()

// docs/reference/log-format.md promises that a second reader can be written from it alone. Here is one: the
// code between the two lines below uses nothing from src.

// ---------------------------------------------------------------------------------------------------------

interface ReadBatch {
  readonly offset: number
  readonly time: number
  readonly records: readonly Buffer[]
}

interface ReadLog {
  readonly logId: string
  readonly partitions: readonly (readonly ReadBatch[])[]
  readonly segments: number
  readonly seals: number
}

async function readLog(data: string): Promise<ReadLog> {
  const line = await readFile(join(data, 'log', 'meta.json'), 'utf8')
  const { checksum, ...meta } = JSON.parse(line)
  assert.equal(crc32(JSON.stringify(meta)).toString(16).padStart(8, '0'), checksum)
  assert.equal(line, `${JSON.stringify({ ...meta, checksum })}\n`)
  assert.deepEqual([meta.format, meta.version], ['hence-log', 2])
  const counts = { segments: 0, seals: 0 }
  const partitions = []
  for (let partition = 0; partition < meta.partitions; partition++) {
    partitions.push(await readPartition(data, meta.logId, partition, counts))
  }
  return { logId: meta.logId, partitions, ...counts }
}

async function readPartition(
  data: string,
  logId: string,
  partition: number,
  counts: { segments: number; seals: number },
): Promise<ReadBatch[]> {
  const folder = join(data, 'log', `p${String(partition).padStart(4, '0')}`)
  const names = (await readdir(folder)).filter((name) => /^\d{8}-\d{16}\.segment$/.test(name)).sort()
  const batches: ReadBatch[] = []
  let offset = 0
  let time = 0
  let decided = 0
  let previous = Buffer.alloc(32)
  let goesOn = true
  for (const [number, name] of names.entries()) {
    assert.ok(goesOn, `${name} exists, but the segment before it is marked as the last`)
    goesOn = false
    counts.segments++
    assert.equal(Number(name.slice(0, 8)), number)
    assert.equal(Number(name.slice(9, 25)), offset)
    const file = await readFile(join(folder, name))
    assert.equal(file.toString('latin1', 0, 4), 'HNCS')
    assert.equal(file.readUInt16LE(4), 2)
    assert.equal(file.toString('hex', 8, 24), logId)
    assert.equal(file.readUInt32LE(24), partition)
    assert.equal(file.readUInt32LE(28), file.length)
    assert.equal(file.readUInt32LE(32), crc32(file.subarray(0, 32)))
    let at = 36
    while (at + 128 <= file.length && file.toString('latin1', at, at + 4) === 'HNCB') {
      assert.equal(file.readUInt32LE(at + 124), crc32(file.subarray(at, at + 124)))
      assert.equal(file.readUInt16LE(at + 4), 2)
      const flags = file.readUInt16LE(at + 6)
      assert.equal(file.toString('hex', at + 8, at + 24), logId)
      assert.equal(file.readUInt32LE(at + 24), partition)
      assert.equal(file.readBigUInt64LE(at + 32), BigInt(offset))
      assert.ok(file.readBigUInt64LE(at + 40) <= BigInt(offset))
      const batchTime = Number(file.readBigUInt64LE(at + 48))
      assert.ok(batchTime >= time)
      time = batchTime
      const count = file.readUInt32LE(at + 56)
      const decidedOffset = Number(file.readBigUInt64LE(at + 96))
      assert.ok(decidedOffset >= decided && decidedOffset <= offset)
      decided = decidedOffset
      assert.equal(file.readBigUInt64LE(at + 112), 0n)
      const payload = file.subarray(at + 128, at + 128 + file.readUInt32LE(at + 60))
      assert.ok(file.subarray(at + 64, at + 96).equals(previous), 'the chain is broken')
      assert.equal(file.readUInt32LE(at + 120), crc32(payload))
      const records: Buffer[] = []
      for (let place = 0; place < payload.length; ) {
        const length = payload.readUInt32LE(place)
        records.push(payload.subarray(place + 4, place + 4 + length))
        place += 4 + length
      }
      assert.equal(records.length, count)
      if (flags & 1) {
        counts.seals++
        assert.equal(count, 0)
      } else {
        batches.push({ offset, time, records })
      }
      goesOn = (flags & 2) !== 0
      previous = createHash('sha256')
        .update(file.subarray(at, at + 128 + payload.length))
        .digest()
      offset += count
      at += 128 + payload.length
      if (goesOn) break
    }
    assert.ok(
      file.subarray(at).equals(Buffer.alloc(file.length - at)),
      'bytes after the last batch are not zero',
    )
  }
  assert.ok(!goesOn, 'the last batch says that there is another segment')
  return batches
}

function readRecord(bytes: Buffer) {
  const text = (from: number, length: number) => bytes.toString('utf8', from, from + length)
  if (bytes[0] === 1) {
    const identity = bytes.readUInt16LE(2)
    const type = bytes.readUInt16LE(4)
    const input = bytes.readUInt32LE(8)
    return {
      kind: 'request',
      identity: bytes.toString('latin1', 12, 12 + identity),
      type: bytes.toString('latin1', 12 + identity, 12 + identity + type),
      version: bytes.readUInt16LE(6),
      input: text(12 + identity + type, input),
      output: bytes[1] === 1 ? text(12 + identity + type + input, bytes.length) : undefined,
    }
  }
  if (bytes[0] === 4) return { kind: 'tick' }
  if (bytes[0] === 9) return { kind: 'watermark', watermark: JSON.parse(text(8, bytes.length)) }
  if (bytes[0] === 5) {
    const end = 24 + bytes.readUInt16LE(2)
    return {
      kind: 'result',
      effect: bytes.toString('latin1', 24, end),
      input: bytes.toString('latin1', 8, 24),
      done: (bytes[1]! & 1) === 0,
      tries: bytes.readUInt16LE(4),
      ms: bytes.readUInt16LE(6),
      text: text(end, bytes.length - end),
    }
  }
  if (bytes[0] === 3 || bytes[0] === 6 || bytes[0] === 10) {
    assert.ok(bytes.subarray(4, 8).equals(Buffer.alloc(4)))
    assert.equal(bytes[1], 0)
    const json = JSON.parse(text(8, bytes.length - 8))
    const generation = bytes.readUInt16LE(2)
    if (bytes[0] === 10) return { kind: 'filled', generation, filled: json }
    return bytes[0] === 3
      ? { kind: 'control', generation, control: json }
      : { kind: 'correction', generation, correction: json }
  }
  assert.equal(bytes[0], 2)
  const identityEnd = 60 + bytes.readUInt16LE(10)
  const typeEnd = identityEnd + bytes.readUInt16LE(12)
  const keyEnd = typeEnd + bytes.readUInt16LE(14)
  return {
    kind: 'event',
    generation: bytes.readUInt16LE(2),
    causePartition: bytes.readUInt16LE(4),
    rootPartition: bytes.readUInt16LE(6),
    depth: bytes.readUInt16LE(8),
    channelNumber: Number(bytes.readBigUInt64LE(16)),
    causeOffset: Number(bytes.readBigUInt64LE(24)),
    rootOffset: Number(bytes.readBigUInt64LE(32)),
    id: bytes.toString('latin1', 40, 56),
    identity: bytes.toString('latin1', 60, identityEnd),
    type: bytes.toString('latin1', identityEnd, typeEnd),
    version: bytes.readUInt16LE(56),
    key: bytes.toString('utf8', typeEnd, keyEnd),
    data: bytes.toString('utf8', keyEnd, bytes.length),
  }
}

// ---------------------------------------------------------------------------------------------------------

async function assertSame(data: string): Promise<ReadLog> {
  const read = await readLog(data)
  const log = await openFileLog({ directory: data })
  try {
    assert.equal(log.id, read.logId)
    assert.equal(log.partitions, read.partitions.length)
    for (const [partition, batches] of read.partitions.entries()) {
      const ours = []
      for await (const { offset, time, records } of log.read(partition, 0)) {
        ours.push({ offset, time, records: records.map((record) => record.toString('hex')) })
      }
      assert.deepEqual(
        batches.map(({ offset, time, records }) => ({
          offset,
          time,
          records: records.map((record) => record.toString('hex')),
        })),
        ours,
      )
    }
  } finally {
    await log.close()
  }
  return read
}

let home: string
test.beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hence-format-'))
})
test.afterEach(() => rm(home, { recursive: true }))

test('segments, batches, seals and the chain through them', async () => {
  for (let life = 0; life < 3; life++) {
    const log = await openFileLog({ directory: home, partitions: 2, segmentBytes: 1_500, sealAfterMs: 0 })
    for (let i = 0; i < 20; i++) {
      await log.append(
        i % 2,
        Array.from({ length: 1 + (i % 3) }, (_, n) => Buffer.alloc(i * 3 + n, i)),
      )
    }
    await log.close()
  }
  const read = await assertSame(home)
  assert.ok(read.segments > 6 && read.seals > 20, JSON.stringify([read.segments, read.seals]))
})

test('requests, events, ticks and results, with every member', async () => {
  const engine = await createEngine({
    app: teller,
    data: home,
    partitions: 3,
    report: () => {},
    handlers: {
      shout({ input }) {
        if (input.to === '終 0') throw new HenceError('deaf', 'change', 'keine Antwort')
        return `ja, ${input.to}`
      },
    },
  })
  for (let i = 0; i < 40; i++) {
    const input = { from: `Straße ${i % 7}`, to: `終 ${i % 5}`, ...(i % 2 && { by: i }) }
    const requestId = i % 3 ? `r-${i}` : `01920000-0000-7000-8000-${String(i).padStart(12, '0')}`
    const ahead = i % 3 === 0
    await engine
      .submit('tell', input, { requestId, principal: i % 4 ? '' : 'Zoë' })
      .catch((error) => assert.ok(ahead && error.code === 'request-id-expired', error))
  }
  // Ticks let time pass, and effects finish.
  const isOpen = () => {
    const { nextTimerAt, oldestEffectAt } = engine.stats()
    return nextTimerAt !== undefined || oldestEffectAt !== undefined
  }
  while (isOpen()) await new Promise(setImmediate)
  await engine.close()
  const kinds = { request: 0, event: 0, output: 0, tick: 0, result: 0 }
  for (const batches of (await assertSame(home)).partitions) {
    for (const { records } of batches) {
      for (const bytes of records) {
        const record = readRecord(bytes)
        assert.deepEqual(record, decodeRecord(bytes))
        kinds[record.kind as 'request']++
        if ('output' in record && record.output !== undefined) kinds.output++
      }
    }
  }
  assert.ok(kinds.request > 20 && kinds.event > 5 && kinds.output > 5, JSON.stringify(kinds))
  assert.ok(kinds.tick > 0 && kinds.result === kinds.request, JSON.stringify(kinds))
})

/** Whether a control record changes anything. A diff may leave one that repeats the version in force. */
function isChange({ record }: { readonly record: unknown }): boolean {
  const { type, version, before } = (record as ControlRecord).control as { [member: string]: unknown }
  return type !== 'version' || before !== version
}

test('code changes, promotions and corrections, with every member and guarantee', async () => {
  const house = (opened: AppBundle, options: object = {}) =>
    createEngine({
      app: opened,
      data: home,
      partitions: 3,
      report: () => {},
      handlers: { shout: () => 'yes' } as never,
      ...options,
    })
  const send = (engine: Engine<App>, from: number, to: number) =>
    Promise.all(
      Array.from({ length: to - from }, (_, i) =>
        engine.submit('tell', { from: `a${i % 7}`, to: `b${i % 5}`, by: from + i } as never, {
          requestId: `r-${from + i}`,
        }),
      ),
    )
  let engine: Engine<App> = await house(teller)
  await send(engine, 0, 20)
  await engine.close()
  engine = await house(louder, { onCodeChange: 'continue' })
  await send(engine, 20, 40)
  const promote = async (requestId: string, note?: string) => {
    const { sha256: diff } = await engine.reprocessing.diff()
    const approval = { diff, ...(note !== undefined && { note }) }
    await engine.reprocessing.promote(approval, { requestId, principal: 'Zoë' })
  }
  await engine.reprocessing.start({ app: silent })
  await promote('p1', 'warum nicht')
  await send(engine, 40, 60)
  await promote('01920000-0000-7000-8000-000000000000')
  const history = await engine.reprocessing.history()
  await engine.close()

  const { partitions } = await assertSame(home)
  const found = partitions.map((batches) =>
    batches.flatMap(({ offset, records }) =>
      records.map((bytes, i) => {
        const record = readRecord(bytes)
        assert.deepEqual(record, decodeRecord(bytes))
        return { at: offset + i, bytes, record }
      }),
    ),
  )
  const controls = found.map((records) => records.filter(({ record }) => record.kind === 'control'))
  for (const [partition, each] of controls.entries()) {
    assert.deepEqual(
      each.filter(isChange).map(({ at }) => at),
      history.map(({ positions }) => positions[partition]),
    )
    assert.deepEqual(
      each.map(({ bytes }) => bytes.toString('hex')),
      controls[0]!.map(({ bytes }) => bytes.toString('hex')),
    )
  }
  const members = controls[0]!
    .filter(isChange)
    .map(({ record }) => Object.keys((record as { control: object }).control))
  const promotion = 'type number base version before identity diff note corrections correctionsHash'.split(
    ' ',
  )
  assert.deepEqual(members, [
    ['type', 'number', 'version', 'rules'],
    ['type', 'number', 'version', 'rules', 'before'],
    promotion,
    promotion.filter((member) => member !== 'note'),
  ])
  // No control record comes between an event and its cause.
  const era = (partition: number, at: number) =>
    controls[partition]!.filter((control) => control.at < at).length
  for (const [partition, records] of found.entries()) {
    for (const { at, record } of records) {
      if (record.kind !== 'event') continue
      const { causePartition, causeOffset } = record as { causePartition: number; causeOffset: number }
      assert.equal(era(partition, at), era(causePartition, causeOffset))
    }
  }
  const kinds = new Set<string>()
  for (const fact of history) {
    if (fact.type !== 'promotion') continue
    const keptWhole = async (name: string, hash: string) => {
      const file = await readFile(join(home, 'promotions', name))
      assert.equal(createHash('sha256').update(file).digest('hex'), hash)
      return file.toString()
    }
    const head = JSON.parse(await keptWhole(`${fact.number}.json`, fact.correctionsHash))
    const lines: string[] = []
    assert.equal(head.portions[0].file, `promotions/${fact.number}-0.ndjson`)
    for (const { file, sha256, dropped } of head.portions as Portion[]) {
      const all = (await keptWhole(basename(file), sha256)).split('\n')
      lines.push(...all.filter((_, line) => !dropped.includes(line)))
    }
    assert.equal(lines.length, fact.corrections)
    assert.ok(lines.length > 0)
    const logged = found.flatMap((records, partition) => {
      const own = records.flatMap(({ at, record }) => {
        if (record.kind !== 'correction') return []
        const { correction, generation } = record as CorrectionRecord
        if (correction.promotion !== fact.number) return []
        assert.equal(generation, fact.generation)
        assert.ok(at > fact.positions[partition]!)
        return [correction]
      })
      assert.deepEqual(
        own,
        own.toSorted((a, b) => a.n - b.n),
      )
      return own
    })
    assert.deepEqual(logged.toSorted((a, b) => a.n - b.n).map(draftOf), lines)
    for (const { what } of logged) kinds.add(what.kind)
  }
  assert.deepEqual([...kinds].sort(), ['effect', 'outcome', 'row'])
})

interface Portion {
  readonly file: string
  readonly sha256: string
  readonly dropped: readonly number[]
}

/** The line of a correction in its file. */
function draftOf({ promotion: _, n: _n, ...given }: CorrectionRecord['correction']): string {
  if (given.what.kind !== 'row') return JSON.stringify(given)
  const { identity: _i, rootPartition: _p, rootOffset: _o, ...draft } = given
  return JSON.stringify(draft)
}
