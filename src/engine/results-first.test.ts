import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/paid-orders.ts'
import { appsOf } from '../../test/apps.ts'
import { type AppBundle, createEngine } from '../index.ts'
import { encodeControl, rulesNow, rulesOldest } from '../log/record.ts'
import { memoryStorage } from '../testing/index.ts'

const { paidOrders } = appsOf<typeof made>(import.meta.resolve('../../test/apps/paid-orders.ts'))

// A result reaches the effect that it answers, wherever the code asks for that effect.

for (const partitions of [2, 8]) {
  test(`orders that were paid at once are paid in strict mode too, on ${partitions} partitions`, async () => {
    // All records have the same log time, so that in strict mode every verdict comes after all results.
    const clock = { now: () => Date.UTC(2026, 0, 1), alarm: () => () => {} }
    const engine = await createEngine({
      app: (await paidOrders('loose')) as AppBundle,
      data: memoryStorage({ partitions, clock }),
      clock,
      report: () => {},
      handlers: { charge: { deliver: async () => ({ paid: true }) } } as never,
    })
    const placed: Promise<unknown>[] = []
    for (let n = 0; n < 300; n++) {
      const input = { order: `o${n}`, product: `p${n % 5}` }
      placed.push(engine.submit('place' as never, input as never, { requestId: `r${n}` }))
      if (n % 20 === 0) await new Promise(setImmediate)
    }
    await Promise.all(placed)
    while ((await engine.effects.list({ state: 'pending' })).length > 0) await new Promise(setImmediate)
    await engine.reprocessing.start({ app: await paidOrders('strict') })
    const { differences } = await engine.reprocessing.diff()
    assert.equal(differences, 0)
    await engine.close()
  })
}

test('a log under rules that this version does not have is refused', async () => {
  const data = memoryStorage()
  const open = async () =>
    createEngine({ app: (await paidOrders('loose')) as AppBundle, data, report: () => {} })
  await (await open()).close()
  for (const rules of [rulesNow + 1, rulesOldest - 1]) {
    const control = { type: 'version', number: 1, version: 'f'.repeat(64), rules } as const
    await data.log.append(0, [encodeControl({ generation: 0, control })])
    await assert.rejects(open(), { code: 'rules-unknown', advice: 'operator' })
  }
})
