import assert from 'node:assert/strict'
import { test } from 'node:test'
import { firstSeed, replayKept, runsOf } from '../kept-failures.ts'
import { Mismatch } from './compare.ts'
import { shrunk } from './shrink.ts'
import { watched } from './watch.ts'
import { randomWorld, runWorld, type World } from './world.ts'

// Random apps and histories run through the engine and through a model of its semantics that was written from
// the docs alone (model.ts). Tables, outcomes, effects, violations and usage must be the same after every
// step, for some order that the docs allow.

/** Cases that share an engine. They have no keys in common. */
const together = 40

async function failureOf(world: World): Promise<Error | undefined> {
  try {
    await runWorld(world)
    return undefined
  } catch (error) {
    return error as Error
  }
}

// Named "kept failure, model case 1" and so on.
replayKept<World>('model', async (world) => {
  const failure = await watched('A kept case of the model', () => failureOf(world))
  if (failure) throw failure
})

const { runs } = runsOf(1_000)

test(`the engine does what the docs say, in ${runs} random cases`, async () => {
  const end = firstSeed + Math.ceil(runs / together)
  for (let seed = firstSeed; seed < end; seed++) {
    const world = randomWorld(seed, together)
    const failure = await watched(`model, seed ${seed},`, () => failureOf(world))
    if (!failure) continue
    assert.fail(
      new Error(
        `model, seed ${seed}. Run it alone with HENCE_SEED=${seed} HENCE_RUNS=1.\n${await reduced(world, failure)}`,
        {
          cause: failure,
        },
      ),
    )
  }
})

/** The failing case alone, as small as it gets, with both results. */
async function reduced(world: World, failure: Error): Promise<string> {
  if (!(failure instanceof Mismatch)) return String(failure.stack)
  const alone = { ...world, cases: world.cases.filter(({ prefix }) => prefix === failure.prefix) }
  const fails = (each: World) =>
    watched(
      `A smaller case of ${failure.message.slice(0, 2_000)}`,
      async () => (await failureOf(each)) instanceof Mismatch,
    )
  if (!(await fails(alone))) return `Only together with the other cases: ${failure.message}`
  const smallest = await shrunk(alone, fails)
  const kept = JSON.stringify({ case: smallest, why: '…' })
  return `${(await failureOf(smallest))?.message}\nKeep it in test/regressions/model.json: ${kept}`
}
