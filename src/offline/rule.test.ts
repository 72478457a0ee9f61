import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/chimes.ts'
import { appsOf } from '../../test/apps.ts'
import { createEngine } from '../engine/open-engine.ts'
import { identityOf } from '../identity.ts'
import { encodeRequest, encodeTick } from '../log/record.ts'
import { HandClock } from '../testing/hand-clock.ts'
import { memoryStorage } from '../testing/memory-storage.ts'
import { ruleOut } from './rule.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/chimes.ts'))
const bundle = await apps.chimes(1_000, false, ['a', 'b', 'c'])
const request = encodeRequest(identityOf('last', ''), 'mark', '{"at":"a"}', undefined, 1)

/** A timer is due at the last record, which nobody has derived and which is ruled out so many times. */
async function afterRulings(record: Buffer, times: number) {
  const clock = new HandClock()
  const data = memoryStorage({ partitions: 1, clock })
  const reports: string[] = []
  const options = { app: bundle, data, clock, report: ({ code }: { code: string }) => reports.push(code) }
  const first = await createEngine(options)
  await first.submit('set', { at: 'a' }, { requestId: 'first' })
  await first.close()
  clock.pass(1_000)
  const { offset } = await data.log.append(0, [record])
  for (let i = 0; i < times; i++) await ruleOut(data.log, bundle.hash, { record: `0:${offset}` })
  const engine = await createEngine(options)
  try {
    await engine.idle()
    const { status } = await engine.submit('mark', { at: 'a' }, { requestId: 'last' })
    const hasRung = (await engine.get('values' as never, ['c'] as never)) !== undefined
    return { status, hasRung, failures: reports.filter((code) => code === 'derivation-failed').length }
  } finally {
    await engine.close()
  }
}

test('an operator rules out what a record derives, and with a second ruling also its timers', async () => {
  assert.deepEqual(await afterRulings(request, 0), { status: 'accepted', hasRung: true, failures: 0 })
  assert.deepEqual(await afterRulings(request, 1), { status: 'failed', hasRung: true, failures: 1 })
  assert.deepEqual(await afterRulings(request, 2), { status: 'failed', hasRung: false, failures: 2 })
})

test('a timer that stops each start is ruled out by the record before which it goes off', async () => {
  assert.deepEqual(await afterRulings(encodeTick(), 0), { status: 'accepted', hasRung: true, failures: 0 })
  assert.deepEqual(await afterRulings(encodeTick(), 1), { status: 'accepted', hasRung: false, failures: 1 })
})
