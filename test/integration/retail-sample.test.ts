import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { sample } from '../../examples/retail/sample.ts'
import type { Summary } from '../../examples/retail/summary.ts'
import { crashAt } from '../crash-points.ts'
import { importOnce, newDirectory, progressOf, startRetail } from './retail-process.ts'

test('the sample, imported twice with the command of the README', async (context) => {
  const requests = sample()
  const ids = new Set(requests.map(({ principal, requestId }) => `${principal} ${requestId}`))
  const data = await newDirectory(context)
  const npmStart = async (): Promise<Summary> => {
    const { stdout } = await promisify(execFile)('npm', ['start', '--', '--once', '--json', '--data', data])
    return JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
  }

  const first = await npmStart()
  assert.equal(first.requests, requests.length)
  assert.equal(first.duplicates, requests.length - ids.size)
  assert.equal(first.failed, 0)
  assert.ok(first.rejected > 0)

  const second = await npmStart()
  assert.deepEqual(
    { ...second, requestsPerSecond: 0 },
    { ...first, accepted: 0, rejected: 0, duplicates: requests.length, requestsPerSecond: 0 },
  )
})

const orders = 4_000
const small = ['--orders', String(orders)]
const requests = sample({ orders })
/** Early enough that most orders are still to come when a signal is handled. */
const early = requests.length / 8
/** The digest of the first import. Every other import must have the same. */
let digest: string | undefined

test(
  crashAt('requests in flight', 'a small sample on 8 partitions is imported by a second run'),
  async (context) => {
    digest = (await importOnce(...small, '--data', await newDirectory(context))).digest
    const args = [...small, '--data', await newDirectory(context), '--partitions', '8']
    const child = startRetail([...args, '--once'], (line) => {
      if ((progressOf(line) ?? 0) >= early) child.kill('SIGKILL')
    })
    assert.equal((await child.ended).signal, 'SIGKILL')

    const summary = await importOnce(...args)
    assert.equal(summary.requests, requests.length)
    assert.ok(summary.duplicates > early)
    assert.equal(summary.digest, digest)
  },
)

test('SIGINT stops the import, then the server of the tables', async (context) => {
  const args = [...small, '--data', await newDirectory(context)]
  let isAsked = false
  const importing = startRetail(args, (line) => {
    // A second SIGINT would end it at once.
    if (!isAsked && (progressOf(line) ?? 0) >= early) isAsked = importing.kill('SIGINT')
  })
  const stopped = await importing.ended
  assert.equal(stopped.code, 130, stopped.err.join('\n'))
  assert.deepEqual(stopped.out, [])
  assert.match(stopped.err.at(-1)!, /Run the same command again to continue/)

  const showing = startRetail(args, (line) => {
    if (line.includes('Press Ctrl-C')) showing.kill('SIGINT')
  })
  const shown = await showing.ended
  assert.equal(shown.code, 0, shown.err.join('\n'))
  assert.ok(
    shown.out.some((line) => line.includes(digest!)),
    shown.out.join('\n'),
  )
  for (const reason of [
    'order-exists',
    'unknown-order',
    'already-cancelled',
    'already-shipped',
    'not-your-order',
  ]) {
    assert.ok(
      shown.out.some((line) => line.includes(reason)),
      `no request was rejected with ${reason}`,
    )
  }
})
