import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierStore, DuelBroken, type DuelFigures, duel, memoryCarrier } from 'hence/testing'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { type Rule, SmallChain } from './small-chain.ts'

// Which rule lets several processes write one log over a carrier that promises no more than an order? The one
// of `Carrier`, without fences, transactions or epochs that anybody checks. Each weaker rule breaks.

const partitions = 2
const { runs, isSample } = runsOf(200)

/** With an odd seed over a carrier that refuses what does not come at the expected position. */
const smallDuel = (seed: number, rule: Rule): Promise<DuelFigures> =>
  duel({
    random: randomFrom(seed),
    partitions,
    carrier: memoryCarrier(new CarrierStore(), { isConditional: seed % 2 === 1 }),
    open: async (_, carrier, clock) => new SmallChain(carrier, partitions, rule, () => clock.now()),
  })

replayKept<number>('carrier-duel', (seed) => smallDuel(seed, 'chain'))

test(`the chain's rule stands in ${runs} duels`, async () => {
  const all = await eachSeed('carrier-duel', runs, (seed) => smallDuel(seed, 'chain'))
  if (isSample) return
  for (const each of ['acknowledged', 'absent', 'unsure', 'claims', 'overtaken', 'deaths'] as const) {
    const sum = all.reduce((total, figures) => total + figures[each], 0)
    assert.ok(sum >= runs / 4, `${each} is only ${sum} in ${runs} duels`)
  }
})

const weaker: Readonly<Record<Exclude<Rule, 'chain'>, RegExp>> = {
  epochs: /time of partition|is there twice|read other records/,
  'no seal': /was reported as absent/,
  'one look': /was reported as absent/,
  'any position': /was acknowledged at/,
}

for (const [rule, broken] of Object.entries(weaker) as [Exclude<Rule, 'chain'>, RegExp][]) {
  test(`a weaker rule breaks: ${rule}`, async () => {
    for (let seed = 2; seed < 2_000; seed += 2) {
      const error = await smallDuel(seed, rule).catch((error) => error)
      if (!(error instanceof Error)) continue
      assert.ok(error instanceof DuelBroken, String(error.stack))
      if (broken.test(error.message)) return
    }
    assert.fail('it stands in 1,000 duels')
  })
}
