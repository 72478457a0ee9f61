import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp, createEngine } from 'hence'
import { memoryStorage } from 'hence/testing'
import { importAll } from './import.ts'
import { sample } from './sample.ts'
import type { Shop } from './shop.ts'
import type { Submission } from './submission.ts'

const shop = await bundleApp<Shop>(import.meta.resolve('./shop.ts'))

const requests = sample({ orders: 300 })
const open = (queueBytesMax = 1024 * 1024) =>
  createEngine({ app: shop, data: memoryStorage({ partitions: 4 }), queueBytesMax })
const never = { signal: new AbortController().signal, onDecided: () => {} }

/** The tables of the sample when each request waits for the one before it. */
async function digestOneByOne(): Promise<string> {
  const engine = await open()
  await importAll(engine, requests, { ...never, inFlightMax: 1 })
  await engine.idle()
  const digest = await engine.digest()
  await engine.close()
  return digest
}

test('many requests at once, most refused as overload at first, lead to the same tables', async () => {
  const engine = await open(4_000)
  const atOnce = requests.map(({ type, input, requestId, principal }) =>
    engine.submit(type, input as never, { requestId: `${requestId}-at-once`, principal }),
  )
  const refused = (await Promise.allSettled(atOnce)).filter(({ status }) => status === 'rejected')
  assert.ok(refused.length > 0, 'the engine refused none')
  await engine.close()

  const next = await open(4_000)
  let decided = 0
  const tally = await importAll(next, requests, { ...never, onDecided: () => decided++ })
  assert.equal(decided, requests.length)
  assert.equal(tally.accepted + tally.rejected + tally.failed + tally.duplicates, requests.length)
  await next.idle()
  assert.equal(await next.digest(), await digestOneByOne())
  await next.close()
})

test('an import that was stopped continues where it was', async () => {
  const engine = await open()
  const controller = new AbortController()
  let decided = 0
  const first = await importAll(engine, requests, {
    signal: controller.signal,
    onDecided: () => ++decided === 100 && controller.abort(),
    inFlightMax: 10,
  })
  assert.ok(decided >= 100 && decided <= 110, `${decided} were decided`)

  const second = await importAll(engine, requests, never)
  const whole = await open()
  const straight = await importAll(whole, requests, never)
  assert.equal(first.accepted + second.accepted, straight.accepted)
  assert.equal(first.rejected + second.rejected, straight.rejected)
  await engine.idle()
  assert.equal(await engine.digest(), await digestOneByOne())
  await Promise.all([engine.close(), whole.close()])
})

test('a request that can never be accepted ends the import, after those that are under way', async () => {
  const engine = await open()
  const [first] = requests
  const wrong = { ...first, type: 'ship-order', input: { number: '' }, requestId: 'wrong' } as Submission
  let decided = 0
  const importing = importAll(engine, [first!, wrong, ...requests], {
    ...never,
    onDecided: () => decided++,
    inFlightMax: 2,
  })
  await assert.rejects(importing, { code: 'input-invalid' })
  assert.ok(decided >= 1 && decided <= 3, `${decided} were decided`)
  await engine.close()
})
