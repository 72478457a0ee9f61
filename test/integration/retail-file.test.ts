import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Summary } from '../../examples/retail/summary.ts'
import { crashAt } from '../crash-points.ts'
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

// The figures were counted by another program; they are in the README beside the file.
const file = realOrders ?? ''
const skip = realOrders ? false : 'the file of real orders is missing (HENCE_RETAIL_CSV)'
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

/** The digest of the first import. Every other import must have the same. */
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

test('the real file on one partition: imported, imported again, and derived from the log alone', {
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

const name = crashAt(
  'requests in flight',
  `the real file on 8 partitions, ${kills} kills, and derived from the log alone`,
)
test(name, {
  skip,
}, async (context) => {
  const data = await newDirectory(context)
  const args = ['--csv', file, '--data', data, '--partitions', '8']
  const random = randomFrom(seed)
  for (let round = 0; round < kills; round++) {
    // The kills spread over the import up to its last progress line; each comes at a random moment of its
    // share.
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
    assert.equal(signal, 'SIGKILL', `the import exited before the kill at ${killAt}\n${err.join('\n')}`)
  }
  const summary = await importOnce(...args)
  assert.equal(summary.accepted + summary.duplicates, invoices)
  assertSameBooks(summary)
  await assertSameFromLog(data, args)
})
