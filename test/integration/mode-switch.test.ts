import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Mode } from 'hence'
import { memoryStorage } from 'hence/testing'
import { warehouse } from '../../examples/warehouse/warehouse.ts'

// A mode is part of the code, so switching it is a change of code. What `reprocess` makes of it is said here; see
// docs/how-to/constraints.md.

function logOf(partitions: number) {
  const data = memoryStorage({ partitions })
  const alarms: string[] = []
  const open = (mode: Mode, onCodeChange: 'refuse' | 'reprocess' = 'refuse') =>
    createEngine({
      app: warehouse(mode),
      data,
      onCodeChange,
      report: ({ level, message }) => level === 'alarm' && alarms.push(message),
    })
  return { alarms, open }
}
type Engine = Awaited<ReturnType<ReturnType<typeof logOf>['open']>>

const receive = (engine: Engine) =>
  engine.submit('receive-goods', { sku: 'mug', units: 2 }, { requestId: 'goods' })
const place = async (engine: Engine, order: string) =>
  (await engine.submit('place-order', { order, sku: 'mug', units: 1 }, { requestId: order })).status
const statesOf = async (engine: Engine) => {
  await engine.idle()
  return Object.fromEntries((await engine.scan('orders')).map(({ key, value }) => [key[0], value.state]))
}

test('strict, loose and strict again: reprocessing decides everything as if the mode had been that from the beginning', async () => {
  const { alarms, open } = logOf(1)
  let engine = await open('strict')
  await receive(engine)
  assert.deepEqual(
    [await place(engine, 'a'), await place(engine, 'b'), await place(engine, 'c')],
    ['accepted', 'accepted', 'rejected'],
  )
  const [strictly, digest] = [await statesOf(engine), await engine.digest()]
  assert.deepEqual(strictly, { a: 'placed', b: 'placed' })
  await engine.close()

  // Not by accident.
  await assert.rejects(open('loose'), { code: 'code-changed' })
  engine = await open('loose', 'reprocess')
  assert.deepEqual(await statesOf(engine), { a: 'placed', b: 'placed', c: 'sorry' })
  assert.equal(await place(engine, 'c'), 'accepted', 'which was told otherwise before')
  assert.equal(engine.standing('stock', 'mug').claimed, 2)
  await engine.close()

  engine = await open('strict', 'reprocess')
  assert.equal(await engine.digest(), digest)
  assert.equal(await place(engine, 'd'), 'rejected')
  await engine.close()

  // On it goes, with what was decided under either mode.
  engine = await open('loose', 'reprocess')
  assert.equal(await place(engine, 'e'), 'accepted')
  assert.deepEqual(await statesOf(engine), { a: 'placed', b: 'placed', c: 'sorry', d: 'sorry', e: 'sorry' })
  assert.equal(engine.standing('stock', 'mug').claimed, 2)
  assert.deepEqual(alarms, [])
  await engine.close()
})

test('on several partitions the log holds what the other mode said: reprocessing refuses, and harms nothing', async () => {
  const { alarms, open } = logOf(4)
  let engine = await open('strict')
  await receive(engine)
  for (const order of ['a', 'b', 'c']) await place(engine, order)
  const states = await statesOf(engine)
  const digest = await engine.digest()
  await engine.close()
  await assert.rejects(open('loose', 'reprocess'), { code: 'divergence' })
  engine = await open('strict', 'reprocess')
  assert.deepEqual(await statesOf(engine), states)
  assert.equal(await engine.digest(), digest)
  assert.equal(await place(engine, 'd'), 'rejected')
  assert.deepEqual(alarms, [])
  await engine.close()
})
