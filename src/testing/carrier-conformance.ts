import assert from 'node:assert/strict'
import { hash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { HenceError } from '../failure.ts'
import type { CarriedBatch, Carrier, CarrierBatch, CarrierFacts } from '../log/carrier.ts'
import { batchBytes } from '../log/file-log/batch.ts'
import { recordBytesMax } from '../log/log.ts'

/** Opens the carriers that the suite tests. */
export interface CarrierConformance {
  /** Opens a carrier of a place, as a process of its own would. */
  open(place: string): Promise<Carrier>
  /** Creates a new place: nothing is in it. */
  newPlace(): Promise<string>
}

/** Tests with `node:test` that a carrier keeps the contract of `Carrier`, once per kind of carrier. */
export function carrierConformance(name: string, made: CarrierConformance): void {
  const check = (what: string, run: (carrier: Carrier, another: () => Promise<Carrier>) => Promise<void>) =>
    test(`${name}: ${what}`, async () => {
      const place = await made.newPlace()
      const opened: Carrier[] = []
      const open = async () => {
        const carrier = await made.open(place)
        opened.push(carrier)
        if ((await carrier.facts()) !== undefined) return carrier
        await carrier.facts(facts)
        return carrier
      }
      try {
        await run(await open(), open)
      } finally {
        for (const carrier of opened) await carrier.close()
      }
    })

  test(`${name}: of two that make the facts at once one wins, and they never change`, async () => {
    const place = await made.newPlace()
    const two = await Promise.all([made.open(place), made.open(place)])
    assert.deepEqual(await Promise.all(two.map((carrier) => carrier.facts())), [undefined, undefined])
    const others = ['a', 'b'].map((digit) => ({ ...facts, logId: digit.repeat(32) }))
    const got = await Promise.all(two.map((carrier, index) => carrier.facts(others[index])))
    assert.deepEqual(got[0], got[1])
    assert.ok(others.some((each) => each.logId === got[0]!.logId))
    const third = await made.open(place)
    assert.deepEqual(await third.facts(), got[0])
    assert.deepEqual(await third.facts(facts), got[0])
    for (const carrier of [...two, third]) await carrier.close()
  })

  check('a partition is empty at first, and unknown ones are refused', async (carrier) => {
    for (const partition of [0, 1]) assert.deepEqual(await contents(carrier, partition), [])
    await rejects(carrier.append(2, chained(undefined, 'x'), 0), 'partition-unknown')
    await rejects(carrier.end(2), 'partition-unknown')
    await rejects(contents(carrier, 2), 'partition-unknown')
  })

  check('a batch that nobody contests gets the position that is the end', async (carrier, another) => {
    let last: CarrierBatch | undefined
    const sent: CarriedBatch[] = []
    for (const size of [1, 255, 256, 70_000, 3]) {
      const expected = await carrier.end(1)
      last = chained(last, randomBytes(size))
      assert.equal(await carrier.append(1, last, expected), expected)
      sent.push({ position: expected, bytes: last.bytes })
    }
    assert.deepEqual(await contents(carrier, 1), sent)
    assert.deepEqual(await contents(carrier, 0), [])
    const reader = await another()
    assert.deepEqual(await contents(reader, 1), sent)
    assert.ok((await reader.end(1)) > sent.at(-1)!.position)
    for (const [index, { position }] of sent.entries()) {
      assert.deepEqual(await contents(reader, 1, position), sent.slice(index))
    }
    const ends = await Promise.all([reader.end(0), reader.end(1)])
    assert.deepEqual(await contents(reader, 1, ends[1]), [])
    if (reader.ends) assert.deepEqual(await reader.ends(), ends)
  })

  check('of batches that compete every reader finds the same, in one order', async (carrier, another) => {
    const writers = [carrier, await another(), await another()]
    const appended = new Map<number, Buffer>()
    const refused: Buffer[] = []
    let head: CarrierBatch | undefined
    for (let round = 0; round < 10; round++) {
      const expected = await carrier.end(0)
      const batches = writers.map((_, writer) => chained(head, `${round}.${writer}`))
      const got = await Promise.all(writers.map((each, index) => each.append(0, batches[index]!, expected)))
      for (const [index, position] of got.entries()) {
        if (position === undefined) refused.push(batches[index]!.bytes)
        else {
          assert.ok(position >= expected && !appended.has(position), `${position} is given twice`)
          appended.set(position, batches[index]!.bytes)
        }
      }
      const first = got.indexOf(expected)
      assert.ok(first >= 0, 'nobody has got the place that was free')
      head = batches[first]
    }
    const found = await contents(carrier, 0)
    const expected = [...appended].sort(([a], [b]) => a - b).map(([position, bytes]) => ({ position, bytes }))
    assert.deepEqual(found, expected)
    for (const writer of [...writers, await another()]) assert.deepEqual(await contents(writer, 0), found)
    assert.ok(refused.every((bytes) => found.every((each) => !each.bytes.equals(bytes))))
  })

  check('a read during appends returns a prefix, and may end early', async (carrier, another) => {
    const reader = await another()
    const sent: Buffer[] = []
    let last: CarrierBatch | undefined
    const append = async () => {
      last = chained(last, `${sent.length}`)
      await carrier.append(0, last, await carrier.end(0))
      sent.push(last.bytes)
    }
    await append()
    const found: Buffer[] = []
    for await (const { bytes } of reader.read(0, 0)) {
      found.push(bytes)
      if (sent.length < 10) await append()
    }
    assert.ok(found.length >= 1)
    assert.deepEqual(found, sent.slice(0, found.length))
    for await (const { bytes } of reader.read(0, 0)) {
      assert.deepEqual(bytes, sent[0])
      break
    }
    assert.equal((await contents(reader, 0)).length, sent.length)
  })

  check('the largest batch fits, which has room for the largest record', async (carrier) => {
    assert.ok(carrier.batchBytesMax >= batchBytes(1, recordBytesMax))
    const largest = chained(
      undefined,
      Buffer.alloc(Math.min(carrier.batchBytesMax, 17 * 1024 * 1024) - 32, 7),
    )
    const after = chained(largest, 'after it')
    await carrier.append(0, largest, await carrier.end(0))
    await carrier.append(0, after, await carrier.end(0))
    const found = await contents(carrier, 0)
    assert.ok(found[0]!.bytes.equals(largest.bytes))
    assert.ok(found[1]!.bytes.equals(after.bytes))
  })

  check('a carrier that was closed opens again when it is used', async (carrier) => {
    const first = chained(undefined, 'first')
    await carrier.append(0, first, await carrier.end(0))
    await carrier.close()
    assert.deepEqual(await carrier.facts(), facts)
    await carrier.append(0, chained(first, 'second'), await carrier.end(0))
    assert.equal((await contents(carrier, 0)).length, 2)
  })

  check('the last bytes kept under a name stay', async (carrier, another) => {
    assert.equal(await carrier.get('a'), undefined)
    await carrier.put('a', Buffer.from('first'))
    await carrier.put('b', Buffer.from('other'))
    const large = randomBytes(3_000_000)
    await carrier.put('a', large)
    const reader = await another()
    for (const each of [carrier, reader]) {
      assert.ok((await each.get('a'))!.equals(large))
      assert.equal(String(await each.get('b')), 'other')
      assert.equal(await each.get('c'), undefined)
    }
    await reader.put('a', Buffer.from('last'))
    assert.equal(String(await carrier.get('a')), 'last')
    assert.deepEqual(await contents(carrier, 0), [])
  })
}

const facts: CarrierFacts = { logId: '0123456789abcdef'.repeat(2), partitions: 2, segmentBytes: 1 << 20 }

function chained(last: CarrierBatch | undefined, content: string | Buffer): CarrierBatch {
  const before = last?.hash ?? Buffer.alloc(32)
  const bytes = Buffer.concat([before, Buffer.from(content)])
  return {
    bytes,
    before,
    hash: hash('sha256', bytes, 'buffer'),
    offset: last === undefined ? 0 : last.offset + 1,
  }
}

async function contents(carrier: Carrier, partition: number, from = 0): Promise<CarriedBatch[]> {
  const batches = []
  for await (const { position, bytes } of carrier.read(partition, from)) {
    batches.push({ position, bytes: Buffer.from(bytes) })
  }
  return batches
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof HenceError && error.code === code)
}
