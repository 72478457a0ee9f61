import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/chimes.ts'
import { appsOf } from '../../test/apps.ts'
import { HandClock } from '../../test/hand-clock.ts'
import { type App, type AppBundle, createEngine, type Engine, HenceError } from '../index.ts'
import { partitionOf } from '../log/partitions.ts'
import type { Storage } from '../storage/storage.ts'
import { memoryStorage } from '../testing/index.ts'

const apps = appsOf<typeof made>(import.meta.resolve('../../test/apps/chimes.ts'))
const { chimes, sums } = apps

// Messages of a generation that is not live must be applied in the same order whether it follows closely or
// comes later.

const partitions = 3
/** A key of each partition. */
const keys = Array.from({ length: partitions }, (_, partition) => {
  for (let i = 0; ; i++) if (partitionOf(`k${i}`, partitions) === partition) return `k${i}`
})
const [clockKey, pingKey, toldKey] = keys as [string, string, string]

/** Returns a function that submits a request and waits until the engine is idle. */
function submitterOf(engine: Engine<App>) {
  let count = 0
  return async (type: string, at: string) => {
    const requestId = `${engine.position()} ${count++}`.replace(' ', '-')
    await engine.submit(type, { at } as never, { requestId })
    await engine.idle()
  }
}

/** Waits until the candidate has applied every record of the log. */
async function followed(engine: Engine<App>): Promise<void> {
  for (;;) {
    const { records, of, state } = (await engine.reprocessing.status())!
    if (records === of || state === 'failed') return
    await new Promise(setImmediate)
  }
}

test('an event of an earlier timer is applied at its own time, whatever the log holds by then', async () => {
  const [slow, quick] = [await chimes(100, false, keys), await chimes(50, true, keys)]
  const clock = new HandClock()
  const data = memoryStorage({ partitions, clock })
  const open = (code: AppBundle, given: object = data) =>
    createEngine({
      app: code,
      data: given,
      clock,
      report: () => {},
    } as never) as Promise<Engine<App>>
  const engine = await open(slow)
  const submit = submitterOf(engine)
  await engine.reprocessing.start({ app: quick })
  await submit('set', clockKey)
  clock.pass(60)
  // The quick code pokes the clock here, so that its timer goes off before the record that sets off the slow
  // one's.
  await submit('ping', pingKey)
  clock.pass(10)
  await submit('mark', toldKey)
  await followed(engine)
  clock.pass(10)
  await submit('mark', toldKey)
  clock.pass(20)
  await submit('mark', toldKey)
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  const value = await engine.get('values', [toldKey] as never)
  await engine.close()
  const bare = await open(quick, { ...memoryStorage({ partitions }), log: data.log })
  assert.deepEqual(await bare.get('values', [toldKey] as never), value)
  await bare.close()
})

test('a message that could not be applied is applied when the generation resumes', async () => {
  const [slow, quick] = [await chimes(100, false, keys), await chimes(100, true, keys)]
  const clock = new HandClock()
  const data = memoryStorage({ partitions, clock })
  let isBroken = false
  const breaking: Storage = {
    ...data,
    async openStore(...given) {
      const store = await data.openStore(...given)
      return {
        get(collection, key) {
          if (isBroken && collection === 't:values')
            throw new HenceError('state-unreadable', 'operator', 'The disk does not answer.')
          return store.get(collection, key)
        },
        range: store.range.bind(store),
        view: store.view.bind(store),
        write: store.write.bind(store),
        close: store.close.bind(store),
      }
    },
  }
  const open = () =>
    createEngine({
      app: slow,
      data: breaking,
      clock,
      report: () => {},
    } as never) as Promise<Engine<App>>
  const first = await open()
  await submitterOf(first)('mark', clockKey)
  await first.reprocessing.start({ app: quick })
  await submitterOf(first)('ping', pingKey)
  await followed(first)
  await first.close()

  const engine = await open()
  await engine.reprocessing.caughtUp()
  clock.pass(10)
  isBroken = true
  await submitterOf(engine)('set', pingKey)
  while ((await engine.reprocessing.status())!.state !== 'failed') await new Promise(setImmediate)
  isBroken = false
  await engine.reprocessing.resume()
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  assert.deepEqual(await engine.get('values', [clockKey] as never), { value: 6 })
  await engine.close()
})

test('requests that move to a partition without records are traced, and not held in memory until a record comes', async () => {
  const two = 2
  const [here, there] = [0, 1].map((partition) => {
    for (let i = 0; ; i++) if (partitionOf(`k${i}`, two) === partition) return `k${i}`
  }) as [string, string]
  const [stayed, moved] = [await sums(here), await sums(there)]
  const data = memoryStorage({ partitions: two })
  let heldMost = 0
  const watched: Storage = {
    ...data,
    async openStore(...given) {
      const store = await data.openStore(...given)
      return {
        get: store.get.bind(store),
        range: store.range.bind(store),
        view: store.view.bind(store),
        close: store.close.bind(store),
        async write(changes) {
          await store.write(changes)
          const { untraced } = JSON.parse(store.get('meta', 'checkpoint') ?? '{"untraced":[]}')
          for (const each of untraced) heldMost = Math.max(heldMost, each.length)
        },
      }
    },
  }
  const engine = (await createEngine({
    app: stayed,
    data: watched,
    checkpointRows: 1_000,
    report: () => {},
  } as never)) as Engine<App>
  const count = 5_000
  const sent = Array.from({ length: count }, (_, i) =>
    engine.submit('add', { at: 'x' } as never, { requestId: `r${i}` }),
  )
  await Promise.all(sent)
  await engine.reprocessing.start({ app: moved })
  await engine.reprocessing.caughtUp()
  await engine.reprocessing.pause()
  await engine.reprocessing.resume()
  const { sha256: diff } = await engine.reprocessing.diff()
  await engine.reprocessing.promote({ diff }, { requestId: 'p' })
  for (const i of [0, 1, 999, 1_000, 1_001, 2_500, count - 1]) {
    const { steps } = (await engine.story(`r${i}`))!
    assert.deepEqual(
      steps.filter(({ kind }) => kind === 'request').map(({ changes }) => changes[0]?.after),
      [{ sum: i + 1 }],
      `r${i}`,
    )
  }
  await engine.close()
  assert.ok(heldMost <= 1_000, `${heldMost} were held`)
})

for (const isClose of [true, false]) {
  const name = `an event that two live generations emitted has a place for each cause, ${isClose ? 'met one by one' : 'known ahead'}`
  test(name, async () => {
    const [quick, slow] = [await chimes(10, false, keys), await chimes(50, false, keys)]
    const clock = new HandClock()
    const data = memoryStorage({ partitions, clock })
    const open = (app: AppBundle, given: object) =>
      createEngine({ app, data: given, clock, report: () => {} } as never) as Promise<Engine<App>>
    const engine = await open(quick, data)
    const submit = submitterOf(engine)
    const begin = (app: AppBundle) => engine.reprocessing.start({ app }, { again: true })
    const promote = async (requestId: string) => {
      const { sha256: diff } = await engine.reprocessing.diff()
      await engine.reprocessing.promote({ diff }, { requestId })
      await engine.reprocessing.discard()
    }
    await submit('set', clockKey)
    await begin(slow)
    // The timer goes off in the quick code, and later again in the slow code that takes over.
    clock.pass(20)
    await submit('mark', clockKey)
    await promote('slow')
    if (isClose) {
      await begin(slow)
      await followed(engine)
    }
    clock.pass(40)
    await submit('mark', clockKey)
    // In the log this stands behind the event of the timer, in the same millisecond.
    await submit('mark', toldKey)
    if (!isClose) await begin(slow)
    await followed(engine)
    const value = await engine.get('values', [toldKey] as never)
    assert.deepEqual(value, { value: 2 })
    const lines: string[] = []
    await engine.reprocessing.diff({ each: (line) => lines.push(line) })
    assert.deepEqual(lines, [])

    await promote('again')
    const digest = await engine.digest()
    await engine.close()
    const bare = await open(slow, { ...memoryStorage({ partitions }), log: data.log })
    assert.equal(await bare.digest(), digest)
    await bare.close()
  })
}
