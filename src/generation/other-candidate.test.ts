import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/letters.ts'
import { appsOf } from '../../test/apps.ts'
import { type App, type AppBundle, createEngine, type Engine } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { shop } = appsOf<typeof made>(import.meta.resolve('../../test/apps/letters.ts'))
const [free, dear, cheap] = await Promise.all([shop(0), shop(5), shop(2)])

// Two machines write one log in turn, each with its own state. A candidate has a number that the log does not
// name, so the other machine may give the same number to its own candidate, and promote that.

function machines() {
  const one = memoryStorage({ partitions: 2 })
  const other = { ...memoryStorage({ partitions: 2 }), log: one.log }
  const open = async (data: object, app: AppBundle) =>
    (await createEngine({ app, data, handlers: {}, report: () => {} } as never)) as Engine<App>
  let count = 0
  const pay = (engine: Engine<App>) =>
    engine.submit('pay', { who: `w${count % 3}`, cents: 10 } as never, { requestId: `r${count++}` })
  return { one, other, open, pay }
}

async function begin(engine: Engine<App>, app: AppBundle): Promise<void> {
  await engine.reprocessing.start({ app }, { again: true })
  await engine.reprocessing.diff()
}

async function promote(engine: Engine<App>, requestId: string): Promise<void> {
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId })
}

test('a candidate is not the generation of the same number that another machine promoted', async () => {
  const { one, other, open, pay } = machines()
  let engine = await open(one, free)
  await pay(engine)
  await begin(engine, dear)
  await engine.close()

  engine = await open(other, free)
  await pay(engine)
  await begin(engine, cheap)
  await promote(engine, 'p')
  const digest = await engine.digest()
  await engine.close()

  engine = await open(one, cheap)
  assert.equal(await engine.digest(), digest)
  await engine.close()
})

test('a candidate of the same code, begun while another generation was live, is none either', async () => {
  const { one, other, open, pay } = machines()
  let engine = await open(one, free)
  for (let i = 0; i < 3; i++) await pay(engine)
  await begin(engine, dear)
  // Its corrections pay something back in generation 1.
  await promote(engine, 'to-1')
  await engine.close()

  engine = await open(other, dear)
  await engine.reprocessing.discard()
  await begin(engine, cheap)
  await engine.close()

  engine = await open(one, dear)
  await promote(engine, 'back-to-0')
  await engine.reprocessing.discard()
  await begin(engine, cheap)
  await promote(engine, 'to-2')
  const digest = await engine.digest()
  await engine.close()

  engine = await open(other, cheap)
  assert.equal(await engine.digest(), digest)
  await engine.close()
})
