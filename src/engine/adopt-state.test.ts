import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { createEngine, type Engine, type EngineOptions, type HenceError, type Standby } from 'hence'
import { CarrierStore, memoryCarrier } from '../../src/testing/memory-carrier.ts'
import type counter from '../../test/apps/counter.ts'
import { engineHome } from '../../test/engine-home.ts'
import { backupState } from '../offline/backup.ts'

type Counter = typeof counter

const requests = 3_000

test('a new directory begins with a copy of the state; one that is damaged or foreign is refused', async (t) => {
  const { home, signal, closing } = await engineHome(t)
  const store = new CarrierStore()
  const reported: string[] = []
  const start = async (name: string, more: Partial<EngineOptions<Counter>> = {}, on = store) => {
    reported.length = 0
    return closing(
      await createEngine<Counter>({
        app: import.meta.resolve('../../test/apps/counter.ts'),
        ...{ data: join(home, name), log: memoryCarrier(on), partitions: 2, checkpointRows: 500 },
        ...{ report: ({ code }) => reported.push(code), signal, ...more },
      }),
    )
  }
  const count = async (engine: Engine<Counter>, from: number, to: number) => {
    const ids = Array.from({ length: to - from }, (_, i) => from + i)
    const sent = ids.map((n) => engine.submit('count', { key: `k${n % 50}` }, { requestId: `r-${n}` }))
    await Promise.all(sent)
  }
  const recordsOf = (engine: Engine<Counter>) => engine.stats().applied.reduce((sum, n) => sum + n, 0)

  const active = await start('a')
  await count(active, 0, requests)
  // The first checkpoint is written beside the requests, and may end after them.
  const copied = await (async () => {
    for (let n = requests; ; n++) {
      try {
        return await backupState({ data: join(home, 'a'), to: join(home, 'copy') })
      } catch (error) {
        if ((error as HenceError).code !== 'no-state') throw error
        await count(active, n, n + 1)
      }
    }
  })()
  assert.ok(copied.records > 100, `${copied.records}`)
  await assert.rejects(backupState({ data: join(home, 'a'), to: join(home, 'copy') }), {
    code: 'folder-not-empty',
  })
  await assert.rejects(backupState({ data: join(home, 'none'), to: join(home, 'x') }), {
    code: 'no-state',
    message: /none has no derived state: it is not there/,
  })
  await count(active, 2 * requests, 2 * requests + 50)

  const { promise: offered, resolve: standby } = Promise.withResolvers<Standby<Counter>>()
  const next = start('b', { wait: true, standby, state: join(home, 'copy') })
  const reads = await offered
  assert.ok(reported.includes('state-adopted'), `${reported}`)
  assert.deepEqual(await reads.get('counts', ['k0']), await active.get('counts', ['k0']))
  const digest = await active.digest()
  await active.close()
  const taken = await next
  assert.equal(await taken.digest(), digest)
  assert.equal((await taken.submit('count', { key: 'k0' }, { requestId: 'r-0' })).replayed, true)
  await taken.close()

  const cold = await start('c', { state: join(home, 'copy') })
  assert.equal(cold.stats().replayed, recordsOf(cold) - copied.records)
  assert.equal(await cold.digest(), digest)
  await cold.close()

  const path = join(home, 'copy', 'state', '0', 'data.mdb')
  const file = await open(path, 'r+')
  const { size } = await file.stat()
  await file.write(Buffer.alloc(size / 2, 7), 0, size / 2, size / 4)
  await file.close()
  const damaged = await start('d', { state: join(home, 'copy') })
  assert.ok(reported.includes('state-unreadable'), `${reported}`)
  assert.equal(damaged.stats().replayed, recordsOf(damaged))
  assert.equal(await damaged.digest(), digest)
  await damaged.close()

  const other = await start('other', { checkpointRows: 1 }, new CarrierStore())
  await count(other, 0, 10)
  await other.close()
  await backupState({ data: join(home, 'other'), to: join(home, 'foreign') })
  const foreign = await start('e', { state: join(home, 'foreign') })
  assert.ok(reported.includes('state-refused'), `${reported}`)
  assert.equal(foreign.stats().replayed, recordsOf(foreign))
  assert.equal(await foreign.digest(), digest)
})
