import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as made from '../../test/apps/credits.ts'
import { appsOf } from '../../test/apps.ts'
import { type AppBundle, type Clock, createEngine, type Storage } from '../index.ts'
import { memoryStorage } from '../testing/index.ts'

const { credits } = appsOf<typeof made>(import.meta.resolve('../../test/apps/credits.ts'))

test('a start saves what it derives, however long each batch takes', async () => {
  const app = (await credits('credits')) as AppBundle
  const { log } = memoryStorage({ partitions: 2 })
  const first = await createEngine({
    app,
    data: { ...memoryStorage({ partitions: 2 }), log },
    report: () => {},
  })
  for (let n = 0; n < 100; n++) {
    const input = { payer: `p${n}`, account: `a${n}`, cents: 500 }
    await first.submit('pay' as never, input as never, { requestId: `r${n}` })
  }
  await first.idle()
  const digest = await first.digest()
  await first.close()

  // Each look sees that a second has passed.
  let ms = Date.now()
  const clock: Clock = { now: () => ms, elapsed: () => (ms += 1_000) }
  const fresh = memoryStorage({ partitions: 2 })
  let saved = 0
  const data: Storage = {
    ...fresh,
    log,
    async openStore(...given) {
      const store = await fresh.openStore(...given)
      return {
        get: store.get.bind(store),
        range: store.range.bind(store),
        view: store.view.bind(store),
        close: store.close.bind(store),
        write(changes) {
          saved++
          return store.write(changes)
        },
      }
    },
  }
  const again = await createEngine({ app, data, clock, checkpointRows: 20, report: () => {} })
  assert.ok(saved > 10, `${saved} checkpoints`)
  assert.equal(await again.digest(), digest)
  await again.close()
})
