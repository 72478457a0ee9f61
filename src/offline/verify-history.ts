import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { derivedDigests } from '../audit/history.ts'
import { type Flaw, flawOf } from '../audit/verify.ts'
import type { GenerationHost } from '../generation/generation.ts'
import { baseOf, type ControlFact, lineageOf, liveOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { Log } from '../log/log.ts'
import { sandboxed } from '../sandbox/program.ts'
import { copyLmdbStore, openLmdbStore } from '../state/lmdb-store.ts'
import { checkCode, readCode } from './code.ts'
import { checkPromotions } from './promotions.ts'
import { type CheckpointSummary, keptStates, readCheckpoint } from './state.ts'

/** What came of deriving everything again: of the generation that is live, and of each that is kept. */
export type History = Checked & { readonly generations?: readonly GenerationChecked[] }

type Checked =
  | { readonly checked: true; readonly tables: number; readonly records: number }
  | { readonly checked: false; readonly reason: string }

export type GenerationChecked = Checked & {
  readonly generation: number
  readonly live: boolean
  /** Of the code that derives what comes next. */
  readonly version: string
}

/** The last checkpoint of a generation, copied. */
export interface CopiedState extends CheckpointSummary {
  readonly directory: string
}

/**
 * Copies the checkpoints of all generations. It must run before the log is read, so that the log is never behind them.
 * @param flaws gets what is wrong with one that cannot be read
 */
export async function copyStates(data: string, temporary: string, flaws: Flaw[]): Promise<CopiedState[]> {
  const copied: CopiedState[] = []
  for (const { generation, folder } of await keptStates(data)) {
    const directory = join(temporary, `kept-${generation}`)
    try {
      if ((await readCheckpoint(folder)) === undefined) continue
      await mkdir(directory)
      await copyLmdbStore(folder, directory)
      copied.push({ ...(await readCheckpoint(directory))!, directory })
    } catch (error) {
      // One that was given up meanwhile is none.
      if ((await keptStates(data)).some((each) => each.generation === generation))
        flaws.push({ ...flawOf(error), generation })
    }
  }
  return copied
}

/** Derives every generation that is kept again from the first record on, and compares. */
export async function verifyHistory(given: {
  readonly data: string
  readonly log: Log
  readonly states: readonly CopiedState[]
  readonly temporary: string
  readonly flaws: Flaw[]
  /** Reports how far a long work is. */
  readonly progress: { add(what: string, amount: number, unit: string): void }
}): Promise<History> {
  const { data, log, states, flaws } = given
  const start = Array.from({ length: log.partitions }, () => 0)
  const { facts } = await findControls(log, start)
  const code = await checkCode(data)
  for (const file of code.changed) {
    const message = `${file} is not the code that its name says. Put it back from a copy.`
    flaws.push({ code: 'code-changed-on-disk', message, file })
  }
  flaws.push(...(await checkPromotions(data, log, facts)))
  const live = liveOf(facts)
  // A generation that is not live goes by where the events of the live one stand, so that one comes first.
  const inOrder = states.toSorted(
    (a, b) => Number(b.generation === live) - Number(a.generation === live) || a.generation - b.generation,
  )
  const generations: GenerationChecked[] = []
  let isStill = false
  for (const state of inOrder) {
    const { generation, version } = state
    const isLive = generation === live
    const is = { generation, live: isLive, version }
    const reason =
      reasonAgainst(state, facts, log, code.kept, flaws) ?? (isLive || isStill ? undefined : stir)
    if (reason !== undefined) {
      generations.push({ ...is, checked: false, reason })
      continue
    }
    try {
      const made = await derivedAgain(state, facts, given)
      if (isLive) isStill = made.isStill
      generations.push({ ...is, checked: true, tables: made.tables, records: made.records })
    } catch (error) {
      flaws.push({ ...flawOf(error), generation })
      generations.push({ ...is, checked: false, reason: 'it could not be, as told above' })
    }
  }
  const of = generations.find(({ live }) => live)
  const { generation: _g, live: _l, version: _v, ...history } = of ?? none
  return { ...history, generations }
}

const stir = 'not all that the live generation has told other partitions is in the log yet'

const none = {
  generation: 0,
  live: true,
  version: '',
  checked: false as const,
  reason: 'no state was saved yet, so there is nothing to compare',
}

/** Why a generation is not derived again, if it is not. */
function reasonAgainst(
  state: CopiedState,
  facts: readonly ControlFact[],
  log: Log,
  kept: ReadonlySet<string>,
  flaws: Flaw[],
): string | undefined {
  const { generation, logId } = state
  if (logId !== log.id) {
    const message = `The state of generation ${generation} belongs to log ${logId}; the log here is ${log.id}. Remove the folder \`state\` while no process runs, and it is derived again.`
    flaws.push({ code: 'state-of-another-log', message, generation })
    return 'it is of another log'
  }
  const wasLive = generation === 0 || facts.some((fact) => fact.generation === generation)
  if (!wasLive) return 'it is being derived, and was never live'
  for (const version of versionsOf(state, facts)) {
    if (kept.has(version)) continue
    const reason = `the code of version ${version.slice(0, 12)} is not kept`
    // A log that begins with a record of its code was derived by code that is kept; other apps keep none.
    if (facts[0]?.type === 'version' && facts[0].before === undefined) {
      const message = `Generation ${generation} cannot be derived again: ${reason}. Put \`code/${version}.js\` back from a copy.`
      flaws.push({ code: 'code-not-kept', message, generation })
    }
    return reason
  }
  return undefined
}

function versionsOf({ generation, version }: CheckpointSummary, facts: readonly ControlFact[]): Set<string> {
  const own = facts.filter((fact) => fact.generation === generation).map((fact) => fact.version)
  return new Set([baseOf(facts, generation) ?? version, ...own, version])
}

async function derivedAgain(
  { generation, version, directory: kept }: CopiedState,
  facts: readonly ControlFact[],
  given: Parameters<typeof verifyHistory>[0],
): Promise<{ tables: number; records: number; isStill: boolean }> {
  const { data, log, temporary, flaws, progress } = given
  const base = baseOf(facts, generation) ?? version
  const derive = (directory: string) => {
    let told = 0
    const host: GenerationHost = {
      log,
      openStore: (_, collections) => openLmdbStore({ directory, collections }),
      programOf: async (version) => sandboxed(await readCode(data, version)),
      checked: false,
    }
    return derivedDigests(host, lineageOf(facts, generation), base, (applied) => {
      progress.add('derived', applied - told, 'records')
      told = applied
    })
  }
  const before = await derive(kept)
  const again = await derive(join(temporary, `again-${generation}`))
  for (const [table, digest] of again.tables) {
    if (before.tables.get(table) === digest) continue
    const message =
      `Table "${table}" of generation ${generation} is not what the log and the code that is kept derive. Remove the folder \`state\` while no process runs, and it is derived again; ` +
      'find out who wrote to it, or what in the code is not deterministic.'
    flaws.push({ code: 'table-differs', message, generation })
  }
  return { tables: again.tables.size, records: again.records, isStill: again.isStill }
}
