import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { type Carrier, createEngine, type Engine } from 'hence'
import type * as airlineMade from '../examples/airline/airline.ts'
import { fly } from '../examples/airline/traffic.ts'
import { importAll } from '../examples/retail/import.ts'
import { sample } from '../examples/retail/sample.ts'
import type * as shopMade from '../examples/retail/shop.ts'
import { appsOf } from './apps.ts'
import { randomFrom } from './random.ts'

const airline = appsOf<typeof airlineMade>(import.meta.resolve('../examples/airline/airline.ts'))
const shop = appsOf<typeof shopMade>(import.meta.resolve('../examples/retail/shop.ts'))

/** Says that nobody is active on a log, although somebody is: the next process to start then takes it. */
export async function releaseFalsely(log: Carrier): Promise<Carrier> {
  await log.put('active', Buffer.from(JSON.stringify({ process: 'none', host: 'none', pid: 0 })))
  return log
}

/**
 * Retail and the airline derive the same from files and from a carrier: on the machine that wrote half of the
 * log, on the one that took it in the middle, and on a new one.
 * @param open opens a carrier of the log of this name
 */
export async function appsOnCarrier(
  directory: string,
  open: (log: string) => Promise<Carrier>,
): Promise<void> {
  const clock = { now: () => 1_800_000_000_000, alarm: () => () => {} }
  const orders = sample({ orders: 150 })
  const apps = {
    retail: {
      app: await shop.default(),
      send: (engine: Engine<shopMade.Shop>) =>
        importAll(engine, orders, { signal: new AbortController().signal, onDecided() {}, inFlightMax: 2 }),
    },
    airline: {
      app: await airline.default(),
      send: (engine: Engine<airlineMade.Airline>) =>
        fly(engine, { name: 'a', flights: 3, random: randomFrom(1) }),
    },
  }
  for (const [name, { app, send }] of Object.entries(apps)) {
    const start = async (machine: string, log?: Carrier) => {
      const given = { app: app as never, partitions: 3, clock, report: () => {} }
      return createEngine({ ...given, data: join(directory, `${name}-${machine}`), ...(log && { log }) })
    }
    const inFiles = await start('files')
    await send(inFiles as never)
    await inFiles.idle()
    const digest = await inFiles.digest()
    await inFiles.close()
    const first = await start('first', await open(name))
    let second: Promise<Engine<never>> | undefined
    const unsubscribe = first.subscribe(() => {
      // In the middle of its writing, another machine takes the log.
      second ??= open(name)
        .then(releaseFalsely)
        .then((log) => start('second', log) as never)
    })
    await send(first as never).catch(() => {})
    unsubscribe()
    assert.ok(second !== undefined)
    const other = await second
    // It notices at its next append, or when it next looks who is active.
    while ((await first.health()).ready) await turn()
    await send(other as never)
    await other.idle()
    assert.equal(await other.digest(), digest, name)
    await other.close()
    await first.close()
    const third = await start('third', await open(name))
    assert.equal(await third.digest(), digest, name)
    await third.close()
  }
}
