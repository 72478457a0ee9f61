import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'

// A random run that fails is worth keeping. Its seed, or its smallest counterexample, goes into
// test/regressions/SUITE.json with the reason, and the suite replays it before anything random.

interface Kept<C> {
  /** A seed, or the arguments of a property. */
  readonly case: C
  /** The defect that it found. */
  readonly why: string
  /** The defect is not mended yet, so the case still fails. */
  readonly isOpen?: true
}

const fileOf = (suite: string) => join(import.meta.dirname, 'regressions', `${suite}.json`)

/** Declares one test for each kept failure of a suite. Call it before the suite's random tests. */
export function replayKept<C>(suite: string, run: (kept: C) => Promise<unknown>): void {
  const file = fileOf(suite)
  const all: readonly Kept<C>[] = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : []
  for (const { case: kept, why, isOpen = false } of all) {
    const name =
      typeof kept === 'number' ? `seed ${kept}` : `case ${all.findIndex((each) => each.why === why) + 1}`
    test(`kept failure, ${suite} ${name}: ${why}`, { todo: isOpen }, async () => void (await run(kept)))
  }
}

/**
 * The number of random worlds: HENCE_RUNS, or the default. With fewer than that, statistics over them mean
 * nothing.
 */
export function runsOf(byDefault: number): { readonly runs: number; readonly isSample: boolean } {
  const runs = Number(process.env['HENCE_RUNS'] ?? byDefault)
  return { runs, isSample: runs >= byDefault }
}

/** The first seed of a run: HENCE_SEED, or 1. */
export const firstSeed = Number(process.env['HENCE_SEED'] ?? 1)

/** Runs one world for each of `runs` seeds. */
export async function eachSeed<T>(
  suite: string,
  runs: number,
  world: (seed: number) => Promise<T>,
): Promise<T[]> {
  const found: T[] = []
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) found.push(await oneSeed(suite, seed, world))
  return found
}

/** Runs the world of one seed. An error names the seed and says how to keep it. */
export async function oneSeed<T>(
  suite: string,
  seed: number,
  world: (seed: number) => Promise<T>,
): Promise<T> {
  try {
    return await world(seed)
  } catch (error) {
    const text = error instanceof Error ? error.stack : String(error)
    const advice = `Run it alone with HENCE_SEED=${seed} HENCE_RUNS=1. ${howToKeep(suite, seed)}`
    throw new Error(`${suite}, seed ${seed}. ${advice}\n${text}`, { cause: error })
  }
}

/** Checks a property with `runs` random cases. An error has the smallest counterexample and says how to keep it. */
export async function checkProperty<T>(
  suite: string,
  property: fc.IAsyncProperty<T>,
  runs: number,
): Promise<void> {
  const seed = process.env['HENCE_SEED']
  const result = await fc.check(property, { numRuns: runs, ...(seed && { seed: Number(seed) }) })
  if (!result.failed) return
  const { counterexample, errorInstance } = result
  const found = counterexample === null ? 'no counterexample' : howToKeep(suite, counterexample)
  assert.fail(new Error(`${suite}: ${found}\n${fc.defaultReportMessage(result)}`, { cause: errorInstance }))
}

function howToKeep(suite: string, kept: unknown): string {
  return `Keep it in test/regressions/${suite}.json: ${JSON.stringify({ case: kept, why: '…' })}`
}
