import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine } from '../engine/open-engine.ts'
import { HenceError } from '../failure.ts'
import { moduleBeside } from '../module-beside.ts'
import type { CarrierConformance } from './carrier-conformance.ts'
import type failover from './failover-app.ts'
import { HostileCarrier, SlowLine } from './hostile-carrier.ts'

const app = moduleBeside(import.meta.url, 'failover-app')

/**
 * Tests with `node:test` that a second engine takes a log over when the first falls silent with requests
 * under way: each has one outcome, before and after, and the first, which goes on later, acknowledges nothing
 * more.
 */
export function carrierFailover(name: string, { open, newPlace }: CarrierConformance): void {
  test(`${name}: an engine takes over from one that falls silent`, async () => {
    const home = await mkdtemp(join(tmpdir(), 'hence-failover-'))
    const place = await newPlace()
    const carriers: HostileCarrier[] = []
    const opened: Awaited<ReturnType<typeof open>>[] = []
    const start = async (directory: string) => {
      const carrier = await open(place)
      const line = new HostileCarrier(carrier, new SlowLine(), Math.random, 0)
      opened.push(carrier)
      carriers.push(line)
      const data = join(home, directory)
      return createEngine<typeof failover>({
        app,
        data,
        log: line,
        wait: true,
        partitions: 2,
        report: () => {},
      })
    }
    try {
      const first = await start('first')
      const submit = (engine: typeof first, n: number) =>
        engine.submit('count', `key ${n % 7}`, { requestId: `request-${n}` })
      // A batch that the first had sent may still arrive, in the place that the second meant to write to.
      const settle = async (engine: typeof first, n: number): ReturnType<typeof submit> => {
        try {
          return await submit(engine, n)
        } catch (error) {
          if (!(error instanceof HenceError) || error.advice !== 'retry') throw error
          return settle(engine, n)
        }
      }
      const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n)
      const replies = await Promise.all(range(0, 100).map((n) => submit(first, n)))
      carriers[0]!.stop()
      const underWay = Promise.allSettled(range(100, 150).map((n) => submit(first, n)))
      const second = await start('second')
      const again = await Promise.all(range(0, 150).map((n) => settle(second, n)))
      for (const [n, { replayed: _, ...reply }] of replies.entries()) {
        const { replayed, ...same } = again[n]!
        assert.deepEqual(same, reply, `request ${n} has another outcome after the failover`)
        assert.ok(replayed, `request ${n} was decided a second time`)
      }
      carriers[0]!.wake()
      for (const [n, each] of (await underWay).entries()) {
        if (each.status === 'rejected') assert.ok(each.reason instanceof HenceError, String(each.reason))
        else assert.equal(each.value.token, again[100 + n]!.token, `request ${100 + n} stands twice`)
      }
      await assert.rejects(submit(first, 150), HenceError, 'an engine that was overtaken still acknowledges')
      await first.close()
      assert.equal((await settle(second, 151)).status, 'accepted')
      const digest = await second.digest()
      await second.close()
      const third = await start('third')
      assert.equal(await third.digest(), digest, 'a replay of the log derives other tables')
      await third.close()
    } finally {
      for (const carrier of carriers) carrier.kill()
      await Promise.all(opened.map((carrier) => carrier.close()))
      await rm(home, { recursive: true, force: true })
    }
  })
}
