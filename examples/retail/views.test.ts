import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp, createEngine, type WithViews } from 'hence'
import { memoryStorage } from 'hence/testing'
import { importAll } from './import.ts'
import { sample } from './sample.ts'
import type shop from './shop.ts'
import type views from './views.ts'

test('the best sellers of a day are counted from its orders, and turnover from the orders that stand', async () => {
  const engine = await createEngine<WithViews<typeof shop, typeof views>>({
    app: await bundleApp<never>(import.meta.resolve('./shop.ts')),
    views: [import.meta.resolve('./views.ts')],
    data: memoryStorage({ partitions: 2 }),
    report: () => {},
  })
  const { signal } = new AbortController()
  await importAll(engine as never, sample({ orders: 200 }), { signal, onDecided() {} })
  await engine.idle()
  const after = (await engine.submit('ship-order', { number: 'none' }, { requestId: 'last' })).token
  const lines = new Map<string, number>()
  const amounts = new Map<string, number>()
  for (const { key, value } of await engine.scan('orders')) {
    if (value.state !== 'cancelled' && value.state !== 'sold-out') {
      const month = `${value.country} ${value.day.slice(0, 7)}`
      amounts.set(month, (amounts.get(month) ?? 0) + value.amount)
    }
    for (const line of await engine.scan('orderLines', { prefix: key })) {
      const name = `${value.day} ${line.value.stockCode}`
      lines.set(name, (lines.get(name) ?? 0) + line.value.units)
    }
  }
  const best = await engine.scan('best-sellers', {}, { after })
  assert.deepEqual(new Map(best.map(({ key, value }) => [key.join(' '), value.units])), lines)
  const months = await engine.scan('turnover')
  assert.deepEqual(
    new Map(
      months.filter(({ value }) => value.amount !== 0).map(({ key, value }) => [key.join(' '), value.amount]),
    ),
    amounts,
  )
  const [first] = best
  const top = await engine.scan('best-sellers', {
    index: 'byUnits',
    prefix: [first!.key[0]],
    reverse: true,
    limit: 1,
  })
  const units = best.filter(({ key }) => key[0] === first!.key[0]).map(({ value }) => value.units)
  assert.equal(top[0]!.value.units, Math.max(...units))
  await engine.close()
})
