import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Clock } from '../src/clock.ts'
import { HenceError } from '../src/failure.ts'
import { type Log, recordBytesMax } from '../src/log/log.ts'

/** Creates the logs that the suite tests. */
interface LogConformance {
  /** Opens the log of a place; a new place gets an empty log with this many partitions. */
  open(place: string, options: { readonly partitions: number; readonly clock: Clock }): Promise<Log>
  /** Creates a new place, for example a directory. */
  newPlace(): Promise<string>
  /** Whether records survive closing and opening the place; false for a log in memory. */
  readonly durable: boolean
}

/** Tests with `node:test` that a log keeps the contract of `Log`. Call it in a test file, once per kind of log. */
export function logConformance(name: string, made: LogConformance): void {
  const check = (
    what: string,
    run: (log: Log, at: { now: number; reopen(): Promise<Log> }) => Promise<void>,
  ) =>
    test(`${name}: ${what}`, async () => {
      const place = await made.newPlace()
      const at = {
        now: 1_000,
        reopen: () => made.open(place, { partitions: 3, clock: { now: () => at.now } }),
      }
      const log = await at.reopen()
      try {
        await run(log, at)
      } finally {
        await log.close()
      }
    })

  check('a new log is empty', async (log) => {
    assert.equal(log.partitions, 3)
    assert.match(log.id, /^[0-9a-f]{32}$/)
    for (let partition = 0; partition < 3; partition++) {
      assert.equal(await log.end(partition), 0)
      assert.deepEqual(await contents(log, partition), [])
    }
  })

  check('each partition returns its records unchanged, in order and without gaps', async (log) => {
    const sizes = [0, 1, 3, 255, 256, 70_000, 0, 12]
    const sent: Buffer[] = sizes.map((size, index) => Buffer.alloc(size, index + 1))
    assert.deepEqual(await offsets(log.append(1, sent.slice(0, 3))), [0])
    assert.deepEqual(await offsets(log.append(2, [Buffer.from('elsewhere')])), [0])
    assert.deepEqual(await offsets(log.append(1, sent.slice(3))), [3])
    assert.deepEqual(await contents(log, 1), sent)
    assert.deepEqual(await contents(log, 2), [Buffer.from('elsewhere')])
    assert.deepEqual(await contents(log, 0), [])
    assert.equal(await log.end(1), sent.length)
  })

  check('the offset below which records were derived is kept, and never goes back', async (log, at) => {
    if (!log.decided || !log.derived) return
    await log.append(0, [Buffer.from('a'), Buffer.from('b')])
    assert.equal(await log.decided(0), 0)
    log.derived(0, 2)
    await log.append(0, [Buffer.from('c')])
    log.derived(0, 1)
    await log.append(0, [Buffer.from('d')])
    assert.equal(await log.decided(0), 2)
    log.derived(0, 3)
    if (!made.durable) return
    await log.close()
    const reopened = await at.reopen()
    try {
      assert.equal(await reopened.decided!(0), 3)
      await reopened.append(0, [Buffer.from('f')])
      assert.equal(await reopened.decided!(0), 3)
    } finally {
      await reopened.close()
    }
  })

  check('the records of one append are adjacent, and appends are in call order', async (log) => {
    const calls = Array.from({ length: 300 }, (_, call) =>
      Array.from({ length: 1 + (call % 5) }, (_, index) => Buffer.from(`${call}.${index}`)),
    )
    const found = await offsets(...calls.map((records) => log.append(0, records)))
    const sent = calls.flat()
    assert.deepEqual(await contents(log, 0), sent)
    for (const [call, records] of calls.entries()) assert.deepEqual(sent[found[call]!], records[0])
  })

  check('a read may start at any offset, and its first batch starts there or before', async (log) => {
    const sent = Array.from({ length: 40 }, (_, index) => Buffer.from(String(index)))
    for (let index = 0; index < 40; index += 4) await log.append(0, sent.slice(index, index + 4))
    for (let from = 0; from <= 40; from++) {
      const batches = []
      for await (const batch of log.read(0, from)) batches.push(batch)
      const first = batches[0]?.offset ?? 40
      assert.ok(first <= from, `asked for ${from}, the first batch begins at ${first}`)
      if (from < 40) assert.ok(first + batches[0]!.records.length > from, 'the first batch holds the record')
      assert.deepEqual(
        batches.flatMap((batch) => batch.records),
        sent.slice(first),
      )
      batches.reduce((expected, batch) => {
        assert.equal(batch.offset, expected)
        return expected + batch.records.length
      }, first)
    }
  })

  check('a read during appends sees a prefix of the log', async (log) => {
    await log.append(0, [Buffer.from('0')])
    const seen = []
    let next = 1
    for await (const batch of log.read(0, 0)) {
      seen.push(...batch.records)
      if (next < 20) await log.append(0, [Buffer.from(String(next++))])
    }
    assert.deepEqual(
      seen.map(String),
      Array.from({ length: seen.length }, (_, index) => String(index)),
    )
    assert.equal(await log.end(0), 20)
  })

  check('returned records do not change while more are appended', async (log) => {
    await log.append(0, [Buffer.from('first')])
    const [first] = await contents(log, 0)
    for (let index = 0; index < 50; index++) await log.append(0, [Buffer.alloc(1000, 7)])
    assert.equal(String(first), 'first')
  })

  check('log time never goes backwards in any partition, whatever the clock does', async (log, at) => {
    let last = 0
    for (const [index, now] of [5_000, 7_000, 3_000, -1, 7_001, 0, 9_000.7].entries()) {
      at.now = now
      const { time } = await log.append(index % 3, [Buffer.from('x')])
      assert.ok(Number.isInteger(time) && time >= last && time >= Math.trunc(now), `${time} after ${last}`)
      last = time
    }
    for (let partition = 0; partition < 3; partition++) {
      let before = 0
      for await (const batch of log.read(partition, 0)) {
        assert.ok(batch.time >= before)
        before = batch.time
      }
    }
  })

  check('an invalid append or read is refused, and nothing is written', async (log) => {
    await rejects(log.append(0, []), 'append-empty')
    await rejects(log.append(0, [Buffer.from('fits'), Buffer.alloc(recordBytesMax + 1)]), 'record-too-large')
    for (const partition of [3, -1, 0.5, Number.NaN]) {
      await rejects(log.append(partition, [Buffer.from('x')]), 'partition-unknown')
      await rejects(log.end(partition), 'partition-unknown')
      await rejects(contents(log, partition), 'partition-unknown')
    }
    for (const from of [1, -1, 0.5]) await rejects(contents(log, 0, from), 'offset-out-of-range')
    assert.equal(await log.end(0), 0)
    assert.deepEqual(await contents(log, 0), [])
  })

  check('the largest record fits', async (log) => {
    const largest = Buffer.alloc(recordBytesMax, 5)
    await log.append(0, [largest, Buffer.from('and one more')])
    assert.deepEqual(await contents(log, 0), [largest, Buffer.from('and one more')])
  })

  check('closing waits for appends under way; then every call is refused', async (log) => {
    const append = log.append(0, [Buffer.from('x')])
    await Promise.all([log.close(), log.close()])
    assert.deepEqual(await offsets(append), [0])
    await rejects(log.append(0, [Buffer.from('y')]), 'log-closed')
    await rejects(log.end(0), 'log-closed')
    await rejects(contents(log, 0), 'log-closed')
    await log.close()
  })

  if (!made.durable) return

  check('a reopened log has the same id, records and log time', async (log, at) => {
    const sent = Array.from({ length: 100 }, (_, index) => Buffer.from(`record ${index}`))
    at.now = 50_000
    for (const record of sent) await log.append(1, [record])
    await log.close()
    at.now = 10
    const again = await at.reopen()
    assert.equal(again.id, log.id)
    assert.equal(await again.end(1), 100)
    assert.deepEqual(await contents(again, 1), sent)
    assert.deepEqual(await contents(again, 1, 60), sent.slice(60))
    const { offset, time } = await again.append(1, [Buffer.from('one more')])
    assert.deepEqual({ offset, time }, { offset: 100, time: 50_000 })
    await again.close()
  })
}

/** All records that a read yields, from the start of its first batch. */
async function contents(log: Log, partition: number, from = 0): Promise<Buffer[]> {
  const records = []
  for await (const batch of log.read(partition, from)) records.push(...batch.records)
  return records
}

async function offsets(...appends: Promise<{ readonly offset: number }>[]): Promise<number[]> {
  return (await Promise.all(appends)).map((appended) => appended.offset)
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof HenceError && error.code === code)
}
