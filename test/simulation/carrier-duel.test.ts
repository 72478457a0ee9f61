import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier } from 'hence'
import { CarrierStore, carrierDuel, carrierFailover, memoryCarrier } from 'hence/testing'
import { openFileLog } from '../../src/log/file-log/file-log.ts'
import { DuelBroken, type DuelFigures, duel } from '../../src/testing/duel.ts'
import { simulatedDisk } from '../../src/testing/simulated-disk.ts'
import { crashAt } from '../crash-points.ts'
import { eachSeed, replayKept, runsOf } from '../kept-failures.ts'
import { randomFrom } from '../random.ts'
import { type Rule, SmallChain } from './small-chain.ts'

// Which rule lets several processes write one log over a carrier that promises no more than an order? The one
// of `Carrier`, without fences, transactions or epochs that anybody checks. Each weaker rule breaks.

const partitions = 2

/** With an odd seed a carrier refuses what does not come at the expected position. */
function connectTo(seed: number): () => Promise<Carrier> {
  const carrier = memoryCarrier(new CarrierStore(), { isConditional: seed % 2 === 1 })
  return async () => carrier
}

const smallDuel = (seed: number, rule: Rule): Promise<DuelFigures> =>
  duel({
    random: randomFrom(seed),
    partitions,
    connect: connectTo(seed),
    open: async (_, carrier, clock) => new SmallChain(carrier, partitions, rule, () => clock.now()),
  })

const quiet = { report: () => {}, sealAfterMs: 60_000, segmentBytes: 2048 }

/** The log as it is, with its copies on disks that lose power. */
const logDuel = (seed: number): Promise<DuelFigures> => {
  const random = randomFrom(seed)
  const disks = Array.from({ length: 4 }, () => simulatedDisk({ random }))
  return duel({
    random,
    partitions,
    connect: connectTo(seed),
    open: (process, carrier, clock) => {
      const place = { directory: '/log', disk: disks[process]!, carrier, partitions }
      return openFileLog({ ...place, clock, follow: true, ...quiet })
    },
    died: (process) => (random() < 0.5 ? disks[process]!.endProcess() : disks[process]!.losePower()),
  })
}

replayKept<number>('carrier-duel', async (seed) => {
  await smallDuel(seed, 'chain')
  await logDuel(seed)
})

const stores = new Map<string, CarrierStore>()
const shared = {
  newPlace: async () => {
    const place = `place ${stores.size}`
    stores.set(place, new CarrierStore())
    return place
  },
  open: async (place: string) => memoryCarrier(stores.get(place)),
}
carrierDuel('a carrier in memory', shared, { duels: 3 })
carrierFailover('a carrier in memory', shared)

const small = runsOf(200)
const large = runsOf(40)

test(`the chain's rule stands in ${small.runs} duels`, () =>
  stands(small, (seed) => smallDuel(seed, 'chain')))

test(crashAt('any turn of the event loop', `the log stands in ${large.runs} duels`), () =>
  stands(large, logDuel),
)

async function stands(
  { runs, isSample }: ReturnType<typeof runsOf>,
  run: (seed: number) => Promise<DuelFigures>,
) {
  const all = await eachSeed('carrier-duel', runs, run)
  if (!isSample) return
  for (const each of ['acknowledged', 'absent', 'unsure', 'claims', 'overtaken', 'deaths'] as const) {
    const sum = all.reduce((total, figures) => total + figures[each], 0)
    assert.ok(sum >= runs / 4, `${each} is only ${sum} in ${runs} duels`)
  }
}

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
