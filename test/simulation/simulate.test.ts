import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Observation, simulate } from 'hence/testing'
import { booksOf } from '../../examples/transfers/books.ts'
import type transfers from '../../examples/transfers/transfers.ts'
import { faults } from '../../src/testing/simulation-plan.ts'
import { crashAt } from '../crash-points.ts'
import type overbooked from '../faults/overbooked.ts'
import { runsOf } from '../kept-failures.ts'

// The whole pipeline from one seed, by the function that users call for their own apps.

const { runs, isSample } = runsOf(8)
const bank = import.meta.resolve('../../examples/transfers/transfers.ts')
const shop = import.meta.resolve('../faults/overbooked.ts')
const cents = 1_000

const transferring = {
  clients: (draw: Parameters<Parameters<typeof simulate<typeof transfers>>[1]['clients']>[0]) => {
    const account = () => `account ${draw.below(6)}`
    return draw.chance(0.2)
      ? (['open-account', { account: account(), cents }] as const)
      : (['transfer', { from: account(), to: account(), cents: 1 + draw.below(500) }] as const)
  },
  invariant({ rows }: Observation<typeof transfers>) {
    const [accounts, sent, receipts] = [rows('accounts'), rows('transfers'), rows('receipts')]
    const { inAccounts, underWay, lowest } = booksOf({ accounts, transfers: sent, receipts })
    assert.ok(lowest >= 0 || accounts.length === 0, `an account has ${lowest}`)
    assert.equal(inAccounts + underWay, accounts.length * cents, 'money was lost or made')
  },
}

const points = ['any disk operation', 'any turn of the event loop'] as const

test(crashAt(points, `no cent is lost or made, and the log derives the same, ${runs} seeds`), async (t) => {
  const found = await simulate<typeof transfers>(bank, { ...transferring, runs })
  t.diagnostic(JSON.stringify(found))
  if (isSample) assert.ok(found.processes > 2 * runs && found.retries > runs, 'too little happens')
})

test(crashAt(points, `each order is charged once, and each excess compensated, ${runs} seeds`), async (t) => {
  let receipts = 0
  const found = await simulate<typeof overbooked>(shop, {
    runs,
    clients: (draw) => ['place', { order: `o${draw.below(40)}`, sku: `sku ${draw.below(4)}`, cents: 100 }],
    receivers: { charge: () => ({ receipt: `receipt ${++receipts}` }) },
    invariant({ rows, requests, deliveries, isOver }) {
      if (!isOver) return
      const placed = requests.filter(({ reply }) => reply?.status === 'accepted')
      const charges = deliveries.filter(({ type }) => type === 'charge')
      assert.equal(charges.length, placed.length, 'each request is charged')
      const sorry = rows('orders').filter(({ value }) => value.state === 'sorry')
      assert.equal(rows('orders').filter(({ value }) => value.state === 'paying').length, 0)
      assert.ok(deliveries.length - charges.length >= sorry.length, 'no apology was sent')
    },
  })
  t.diagnostic(JSON.stringify(found))
})

test('the same seeds have the same hash, other seeds have another', async () => {
  const hashOf = async (seed: number) =>
    (await simulate<typeof transfers>(bank, { ...transferring, seed, runs: 2 })).hash
  assert.equal(await hashOf(40), await hashOf(40))
  assert.notEqual(await hashOf(40), await hashOf(41))
})

test('a failure prints its seed, the steps that are needed, and a command that finds it again', async () => {
  const rich = () =>
    simulate<typeof transfers>(bank, {
      ...transferring,
      seed: 3,
      runs: 2,
      invariant({ rows }) {
        const most = Math.max(0, ...rows('accounts').map(({ value }) => value.cents))
        assert.ok(most <= cents, `an account has ${most}`)
      },
    })
  const error: Error = await rich().then(
    () => assert.fail('it did not fail'),
    (error) => error,
  )
  const [, seed, least, all] = /^Seed (\d) fails: an account has \d+\n\n(\d+) of its (\d+) steps/.exec(
    error.message,
  )!
  // Two accounts, and a transfer between them.
  assert.equal(least, '3', error.message)
  assert.ok(Number(all) > 60)
  assert.equal(error.message.match(/^ {2}\d\. after \d+ turns send: /gm)?.length, 3)
  const command = new RegExp(
    `: HENCE_SEED=${seed} HENCE_RUNS=1 node -C hence-source (--test )?test/simulation/simulate.test.ts$`,
  )
  assert.match(error.message, command)
})

test('each fault is injected alone, or none', async () => {
  const none = Object.fromEntries(Object.keys(faults).map((name) => [name, false]))
  const counts = new Map<string, number>()
  for (const name of ['none', ...Object.keys(faults)]) {
    const chosen = { ...none, ...(name !== 'none' && { [name]: true }) }
    const { processes } = await simulate<typeof transfers>(bank, {
      ...transferring,
      faults: chosen,
      seed: 5,
      runs: 1,
    })
    counts.set(name, processes)
  }
  // The last process derives everything again.
  assert.equal(counts.get('none'), 2)
  for (const name of ['crash', 'power', 'rot']) assert.ok(counts.get(name)! > 2, name)
})

test('an effect with a result needs a receiver', async () => {
  const clients = () => ['place', { order: 'o', sku: 's', cents: 1 }] as const
  await assert.rejects(simulate<typeof overbooked>(shop, { clients, invariant() {} }), {
    code: 'option-invalid',
    message: /The effect "charge" has a result/,
  })
})
