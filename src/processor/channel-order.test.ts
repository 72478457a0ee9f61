import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/credits.ts'
import { appsOf } from '../../test/apps.ts'
import { type AppBundle, createEngine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { credits } = appsOf<typeof made>(import.meta.resolve('../../test/apps/credits.ts'))

// A channel keeps the order in which the code of its generation emits, wherever the log has places for some
// of the events.

const cases = [
  ['opens first', { cents: 500, seen: 0 }],
  ['marks after', { cents: 500, seen: 500 }],
] as const
for (const [how, balance] of cases) {
  for (const partitions of [1, 2, 4]) {
    test(`code that ${how} has 200 accounts of 200 right, on ${partitions} partition${partitions > 1 ? 's' : ''}`, async () => {
      const engine = await createEngine({
        app: (await credits('credits')) as AppBundle,
        data: memoryStorage({ partitions }),
        report: () => {},
      })
      const sent: Promise<unknown>[] = []
      for (let n = 0; n < 200; n++) {
        const input = { payer: `p${n}`, account: `a${n}`, cents: 500 }
        sent.push(engine.submit('pay' as never, input as never, { requestId: `r${n}` }))
        if (n % 10 === 0) await new Promise(setImmediate)
      }
      await Promise.all(sent)
      await engine.idle()
      await engine.reprocessing.start({ app: await credits(how) })
      const { sha256: diff } = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff }, { requestId: 'p' })
      const rows = await engine.scan('balances' as never, {})
      const right = rows.filter(({ value }) => JSON.stringify(value) === JSON.stringify(balance))
      assert.equal(right.length, 200)
      await engine.close()
    })
  }
}
