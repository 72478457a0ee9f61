import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bundleApp } from 'hence'
import { scenario, simulate } from 'hence/testing'
import type ledger from './ledger.ts'

const app = await bundleApp<typeof ledger>(import.meta.resolve('./ledger.ts'))

const open = (account: string, cents: number) => ['open-account', { account, owner: account, cents }] as const

test('money moves, and never below zero', () => {
  scenario(app)
    .given(...open('a', 500))
    .given(...open('b', 0))
    .when('transfer', { from: 'a', to: 'b', cents: 300 })
    .thenAccepted({ left: 200 })
    .thenRow('accounts', ['b'], { owner: 'b', cents: 300 })
    .when('transfer', { from: 'a', to: 'b', cents: 300 })
    .thenRejected('too-little', { cents: 200 })
})

test('money for an account that does not exist comes back', () => {
  scenario(app)
    .given(...open('a', 500))
    .given('transfer', { from: 'a', to: 'nobody', cents: 300 })
    .thenEvents('arriving', 'returned')
    .thenRow('accounts', ['a'], { owner: 'a', cents: 500 })
})

// The whole pipeline, with crashes, lost messages and full disks, from a seed.
test('no cent is lost or made, whatever fails', async () => {
  await simulate(app, {
    runs: 3,
    clients: (draw) =>
      draw.chance(0.3)
        ? [...open(`a${draw.below(4)}`, 1_000)]
        : ['transfer', { from: `a${draw.below(4)}`, to: `a${draw.below(5)}`, cents: 1 + draw.below(900) }],
    invariant({ rows, isOver }) {
      const sum = rows('accounts').reduce((sum, { value }) => sum + value.cents, 0)
      // Money that travels is in no account.
      if (isOver) assert.equal(sum, 1_000 * rows('accounts').length)
      else assert.ok(sum <= 1_000 * rows('accounts').length)
    },
  })
})
