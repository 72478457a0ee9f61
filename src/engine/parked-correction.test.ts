import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/rung-orders.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { createEngine } from '../index.ts'
import { decodeRecord } from '../log/record.ts'
import { memoryStorage } from '../testing/index.ts'

const { rungOrders } = appsOf<typeof made>(import.meta.resolve('../../test/apps/rung-orders.ts'))

test('the story of a request has its correction, also if that waited behind timers', async () => {
  const clock = new HandClock()
  const data = memoryStorage({ clock } as never)
  const { log } = data
  const append = log.append.bind(log)
  // The timers are due once the promotion is decided, and before its correction.
  log.append = (partition, records) => {
    if (decodeRecord(records[0] as Buffer).kind === 'correction') clock.pass(3_600_000)
    return append(partition, records)
  }
  const engine = await createEngine({ app: await rungOrders(1), data, clock, report: () => {} } as never)
  await engine.submit('place', { name: 'a' } as never, { requestId: 'r' })
  await engine.reprocessing.start({ app: await rungOrders(2) })
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  await engine.idle()
  const story = (await engine.story('r'))!
  const steps = story.steps.filter(({ kind }) => kind === 'correction')
  assert.deepEqual(
    steps.map(({ correction }) => correction?.kind),
    ['outcome'],
  )
  await engine.close()
})
