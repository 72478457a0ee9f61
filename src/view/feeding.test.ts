import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HandClock } from '../testing/hand-clock.ts'
import { Feeding } from './feeding.ts'
import type { ViewFold } from './fold.ts'
import type { ViewsHost } from './host.ts'

test('rows that changed while a view in SQL was being saved are saved after that', async () => {
  const under = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  let saving: Promise<void> | undefined = under.promise.then(() => {
    saving = undefined
  })
  let saves = 0
  const view = {
    ...{ name: 'lines', view: { sql: 'lines' }, positions: [0], failure: undefined },
    get saving() {
      return saving
    },
    saveIfDue(rows: number) {
      if (rows === 1 && saving === undefined && ++saves === 1) begun.resolve()
      return undefined
    },
  } as unknown as ViewFold
  const live = { number: 0, processor: { position: () => 0 } }
  const caughtUp = Promise.withResolvers<void>()
  const listener = {
    caughtUp: async () => caughtUp.resolve(),
    failed: async () => assert.fail(`${view.failure}`),
    tooOld: async () => assert.fail(),
    otherGeneration: async () => assert.fail(),
  }
  const nothingMore = Promise.withResolvers<void>()
  const clock = new HandClock()
  const host = {
    ...{ clock, isBusy: () => false, next: () => nothingMore.promise, checkpointRows: 1_000 },
    ...{ storage: {}, live: async () => live, frontier: () => Number.POSITIVE_INFINITY },
  } as unknown as ViewsHost
  const feeding = new Feeding(host, listener, 0)
  feeding.add(view)
  feeding.start((error) => assert.fail(`${error}`))
  await caughtUp.promise
  assert.equal(saves, 0)
  under.resolve()
  await begun.promise
  await feeding.stop()
  assert.equal(saves, 1)
})
