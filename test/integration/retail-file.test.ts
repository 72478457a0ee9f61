import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Summary } from '../../examples/retail/summary.ts'
import { randomFrom } from '../random.ts'
import {
  importOnce,
  isLong,
  newDirectory,
  progressOf,
  realOrders,
  rounds,
  startRetail,
} from './retail-process.ts'

// The figures were counted by a program that is not Hence, and stand in the README beside the file.
const file = realOrders ?? ''
const skip = realOrders ? false : 'the file of real orders is not there (HENCE_RETAIL_CSV): it is not checked'
const invoices = 12_795
const figures = { revenue: '4397950.761', writeOffUnits: -114_420, customers: 3_002, stockCodes: 3_651 }

const kills = rounds ?? 2
const seed = 20101201

const figuresOf = ({ revenue, writeOffUnits, customers, stockCodes }: Summary) => ({
  revenue,
  writeOffUnits,
  customers,
  stockCodes,
})
const countsOf = ({ requests, accepted, rejected, failed, duplicates }: Summary) => ({
  requests,
  accepted,
  rejected,
  failed,
  duplicates,
})
const allAccepted = { requests: invoices, accepted: invoices, rejected: 0, failed: 0, duplicates: 0 }
const allDuplicates = { ...allAccepted, accepted: 0, duplicates: invoices }

/** The digest of the first import; every other way must lead to the same. */
let digest: string | undefined
const assertSameBooks = (summary: Summary) => {
  assert.deepEqual(figuresOf(summary), figures)
  digest ??= summary.digest
  assert.equal(summary.digest, digest)
}

async function assertSameFromLog(data: string, args: readonly string[]): Promise<void> {
  await rm(join(data, 'state'), { recursive: true })
  const replayed = await importOnce(...args)
  assert.deepEqual(countsOf(replayed), allDuplicates)
  assertSameBooks(replayed)
}

test('the real file on one partition: straight, again, and from the log alone', {
  skip: skip || (!isLong && 'takes long: npm run test:soak'),
}, async (context) => {
  const data = await newDirectory(context)
  const args = ['--csv', file, '--data', data]
  const straight = await importOnce(...args)
  assert.deepEqual(countsOf(straight), allAccepted)
  assertSameBooks(straight)

  const again = await importOnce(...args)
  assert.deepEqual(countsOf(again), allDuplicates)
  assertSameBooks(again)

  await assertSameFromLog(data, args)
})

test(`the real file on 8 partitions, killed ${kills} times on the way, and from the log alone`, {
  skip,
}, async (context) => {
  const data = await newDirectory(context)
  const args = ['--csv', file, '--data', data, '--partitions', '8']
  const random = randomFrom(seed)
  for (let round = 0; round < kills; round++) {
    // The rounds spread over the import up to its last line of progress; within its share of it, each is
    // killed at a moment of its own.
    const killAt = Math.floor(((round + random()) / kills) * 0.94 * invoices)
    const wait = random() * 30
    let killing: Promise<void> | undefined
    const kill = async () => {
      await delay(wait)
      child.kill('SIGKILL')
    }
    const child = startRetail([...args, '--once'], (line) => {
      const decided = progressOf(line)
      if (decided !== undefined && decided >= killAt) killing ??= kill()
    })
    const { signal, err } = await child.ended
    await killing
    assert.equal(signal, 'SIGKILL', `it must be killed at ${killAt}, but ended before\n${err.join('\n')}`)
  }
  const summary = await importOnce(...args)
  assert.equal(summary.accepted + summary.duplicates, invoices)
  assertSameBooks(summary)
  await assertSameFromLog(data, args)
})
