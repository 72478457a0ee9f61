import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type App, type AppBundle, createEngine, type Engine, HenceError, type Reply } from 'hence'
import { CarrierStore, memoryCarrier } from 'hence/testing'
import { HostileCarrier, SlowLine } from '../../src/testing/hostile-carrier.ts'
import type * as made from '../apps/corrected-orders.ts'
import { appsOf } from '../apps.ts'
import { crashAt } from '../crash-points.ts'
import { uuid7 } from '../ids.ts'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'

// Two engines take one log from each other, over lines that lose, delay and repeat, while new code is
// promoted with its corrections and old ids are forgotten. Every id has one outcome, and every replay the
// same tables.

const { orders } = appsOf<typeof made>(import.meta.resolve('../apps/corrected-orders.ts'))
const codes = [await orders('first'), await orders('upper', true)] as const
const { runs } = runsOf(1)
const hour = 3_600_000
const partitions = 2

interface Life {
  readonly engine: Engine<App>
  readonly carrier: HostileCarrier
}

/** Nobody learns who is active, so everybody takes the log at any time. */
class SilentCarrier extends HostileCarrier {
  override async put(name: string, bytes: Uint8Array): Promise<void> {
    if (name !== 'active') await super.put(name, bytes)
  }
}

async function world(
  seed: number,
): Promise<{ taken: number; promoted: number; unsure: number; expired: number }> {
  const random = randomFrom(seed)
  const store = new CarrierStore()
  const line = new SlowLine()
  const home = await mkdtemp(join(tmpdir(), 'hence-engine-duel-'))
  const figures = { taken: 0, promoted: 0, unsure: 0, expired: 0 }
  const alarms: string[] = []
  let now = Date.UTC(2026, 0, 1)
  let code = 0
  const lives: (Life | undefined)[] = [undefined, undefined]
  const replies = new Map<string, Reply>()
  const requests: { readonly id: string; readonly name: string }[] = []

  const open = async (directory: string, carrier: ReturnType<typeof memoryCarrier>): Promise<Engine<App>> => {
    const clock = { now: () => now, alarm: () => () => {}, elapsed: () => now }
    const report = ({ level, code, message }: { level: string; code: string; message: string }) => {
      if (level === 'alarm' && code !== 'writes-held-up' && !message.includes('log-taken'))
        alarms.push(message)
    }
    const given = {
      data: join(home, directory),
      log: carrier,
      partitions,
      clock,
      report,
      windowMs: 24 * hour,
    }
    const options = { ...given, confirmClock: true }
    try {
      return await createEngine({ ...options, app: codes[code]! as AppBundle<App> })
    } catch (error) {
      if ((error as HenceError).code !== 'code-changed') throw error
      // The other engine has promoted the new code.
      code = 1 - code
      return createEngine({ ...options, log: carrier, app: codes[code]! as AppBundle<App> })
    }
  }
  const end = async (index: number) => {
    const life = lives[index]
    lives[index] = undefined
    life?.carrier.kill()
    await life?.engine.close().catch(() => {})
  }
  const start = async (index: number) => {
    await end(index)
    const hostility = random() < 0.4 ? 0 : random() * 0.3
    const carrier = new SilentCarrier(memoryCarrier(store), line, random, hostility)
    lives[index] = { engine: await open(`process-${index}`, carrier), carrier }
    figures.taken++
  }
  const submit = async (engine: Engine<App>, { id, name }: (typeof requests)[number]) => {
    const reply = await engine.submit('place', { name } as never, { requestId: id })
    const { replayed: _, corrected: __, ...again } = reply as Reply & { corrected?: unknown }
    const first = replies.get(id)
    if (first === undefined) replies.set(id, again as Reply)
    else assert.deepEqual(again, first, `${id} got another outcome`)
  }
  const promote = async (engine: Engine<App>) => {
    await engine.reprocessing.start({ app: codes[1]! as AppBundle<App> })
    const { sha256: diff } = await engine.reprocessing.diff()
    await engine.reprocessing.promote({ diff }, { requestId: 'promotion' })
    figures.promoted++
    code = 1
    // The generation before would be derived on, in a process of its own.
    await engine.reprocessing.discard()
  }
  const step = async () => {
    const drawn = random()
    const index = random() < 0.5 ? 0 : 1
    if (drawn < 0.1) return start(index)
    if (drawn < 0.13) return end(index)
    if (drawn < 0.3) {
      now += [60_000, hour, 20 * hour, 50 * hour][Math.floor(random() * 4)]!
      return
    }
    const life = lives[index] ?? lives[1 - index]
    if (life === undefined) return start(index)
    if (drawn < 0.34) {
      life.carrier.stop()
      setTimeout(() => life.carrier.wake(), random() * 20)
    }
    if (drawn > 0.95) return promote(life.engine)
    const isNew = requests.length === 0 || random() < 0.6
    if (isNew) requests.push({ id: uuid7(now, random), name: `n${Math.floor(random() * 5)}` })
    await submit(life.engine, requests[isNew ? requests.length - 1 : Math.floor(random() * requests.length)]!)
  }

  try {
    for (let steps = 0; steps < 40; steps++) {
      try {
        await step()
      } catch (error) {
        if (!(error instanceof HenceError)) throw error
        if (error.code === 'request-id-expired') figures.expired++
        else if (error.advice === 'retry' || error.code === 'engine-stopped') figures.unsure++
        // The other engine has promoted, or keeps the generation before.
        else if (/^(reprocess|candidate|promot|diff)/.test(error.code)) figures.unsure++
        else throw error
      }
    }
    for (const index of [0, 1]) await end(index)
    while (line.length > 0) await line.arrive(random)
    const engine = await open('reader', memoryCarrier(store))
    for (const request of requests) {
      const error = await submit(engine, request).catch((error) => error)
      assert.ok(error === undefined || error.code === 'request-id-expired', String(error))
    }
    const after = await engine.digest()
    await engine.close()
    const again = await open('again', memoryCarrier(store))
    assert.equal(await again.digest(), after, 'a replay derives other tables')
    await again.close()
    // The directory of each process goes on as well.
    for (const index of [0, 1]) {
      const same = await open(`process-${index}`, memoryCarrier(store))
      assert.equal(await same.digest(), after, `process ${index} has other tables`)
      await same.close()
    }
    assert.deepEqual(alarms, [])
    return figures
  } finally {
    for (const index of [0, 1]) await end(index)
    await rm(home, { recursive: true, force: true })
  }
}

replayKept<number>('engine-duel', world)

test(
  crashAt('any turn of the event loop', `two engines agree about one log, in ${runs} worlds`),
  async () => {
    const all = await eachSeed('engine-duel', runs, world)
    // One world may lack one of them.
    for (const each of runs < 10 ? [] : (['taken', 'promoted'] as const)) {
      assert.ok(
        all.some((figures) => figures[each] > 0),
        each,
      )
    }
  },
)
