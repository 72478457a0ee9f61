import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEngine, type Mode } from 'hence'
import { memoryStorage } from 'hence/testing'
import type * as made from '../../examples/warehouse/warehouse.ts'
import { appsOf } from '../apps.ts'

const { warehouse } = appsOf<typeof made>(import.meta.resolve('../../examples/warehouse/warehouse.ts'))

// The mode is part of the code, so switching it is a change of code. The new mode decides from there on, or
// from the beginning; see docs/how-to/constraints.md.

type Choice = 'refuse' | 'continue' | 'reprocess'

function logOf(partitions: number) {
  const data = memoryStorage({ partitions })
  const alarms: string[] = []
  const open = async (mode: Mode, onCodeChange: Choice = 'refuse', from = data) =>
    createEngine({
      app: await warehouse(mode, false),
      data: from,
      onCodeChange,
      report: ({ level, message }) => level === 'alarm' && alarms.push(message),
    })
  return { alarms, data, open }
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

for (const partitions of [1, 4]) {
  test(`strict, loose and strict again with \`continue\` (${partitions} partitions)`, async () => {
    const { alarms, data, open } = logOf(partitions)
    let engine = await open('strict')
    await receive(engine)
    assert.deepEqual(
      [await place(engine, 'a'), await place(engine, 'b'), await place(engine, 'c')],
      ['accepted', 'accepted', 'rejected'],
    )
    await engine.close()

    // A changed mode is refused by default.
    await assert.rejects(open('loose'), { code: 'code-changed' })
    engine = await open('loose', 'continue')
    assert.equal(await place(engine, 'c'), 'rejected', 'the stored outcome changed')
    assert.equal(await place(engine, 'd'), 'accepted')
    assert.deepEqual(await statesOf(engine), { a: 'placed', b: 'placed', d: 'sorry' })
    assert.equal((await engine.violations.usage('stock', 'mug')).claimed, 2)
    await engine.close()

    engine = await open('strict', 'continue')
    assert.equal(await place(engine, 'e'), 'rejected')
    assert.deepEqual(await statesOf(engine), { a: 'placed', b: 'placed', d: 'sorry' })
    const digest = await engine.digest()
    await engine.close()

    // Each part of the log is derived under the mode that was in force there.
    engine = await open('strict', 'refuse', {
      ...memoryStorage({ partitions }),
      log: data.log,
      kept: data.kept,
    })
    assert.equal(await engine.digest(), digest)
    assert.deepEqual(alarms, [])
    await engine.close()
  })

  test(`strict, loose and strict again with \`reprocess\` (${partitions} partitions)`, async () => {
    const { alarms, open } = logOf(partitions)
    let engine = await open('strict')
    await receive(engine)
    for (const order of ['a', 'b', 'c']) await place(engine, order)
    const [strictly, digest] = [await statesOf(engine), await engine.digest()]
    await engine.close()

    engine = await open('loose', 'reprocess')
    assert.deepEqual(await statesOf(engine), { a: 'placed', b: 'placed', c: 'sorry' })
    assert.equal(await place(engine, 'c'), 'rejected', 'the stored outcome changed')
    assert.equal((await engine.violations.usage('stock', 'mug')).claimed, 2)
    await engine.close()

    engine = await open('strict', 'reprocess')
    assert.equal(await engine.digest(), digest)
    assert.deepEqual(await statesOf(engine), strictly)
    assert.equal(await place(engine, 'd'), 'rejected')
    assert.deepEqual(alarms, [])
    await engine.close()
  })
}
