import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import { derivedDigests } from '../audit/history.ts'
import { type Flaw, flawOf } from '../audit/verify.ts'
import type { GenerationHost } from '../generation/generation.ts'
import { baseOf, type ControlFact, lineageOf, liveOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { Log } from '../log/log.ts'
import { sandboxed } from '../sandbox/program.ts'
import { copyLmdbStore } from '../state/lmdb-check.ts'
import { openLmdbStore } from '../state/lmdb-store.ts'
import { copyViews, openRefold, type Refold } from '../view/refold.ts'
import { checkPromotions } from './check-promotions.ts'
import { type CheckpointSummary, readCheckpoint, storedGenerations } from './checkpoints.ts'
import { checkCode, readCode } from './code.ts'

/** The result of deriving everything again: for the live generation, and for each stored one. */
export type VerifiedHistory = Checked & { readonly generations?: readonly VerifiedGeneration[] }

/** The same for one generation. */
export type VerifiedGeneration = Checked & {
  readonly generation: number
  readonly live: boolean
  /** The version of the code that derives the next records. */
  readonly version: string
}

type Checked =
  | {
      readonly checked: true
      readonly tables: number
      readonly records: number
      /** One hash over everything that is derived; see the glossary. */
      readonly imprint: string
      /** The views whose rows were folded again. */
      readonly views?: readonly { readonly name: string; readonly sha256: string }[]
    }
  | { readonly checked: false; readonly reason: string }

export interface CopiedState extends CheckpointSummary {
  readonly directory: string
}

/** Copies the checkpoints of all generations, before the log is read, which is then never behind them. */
export async function copyStates(data: string, temporary: string, flaws: Flaw[]): Promise<CopiedState[]> {
  const copied: CopiedState[] = []
  for (const { generation, folder } of await storedGenerations(data)) {
    const directory = join(temporary, `kept-${generation}`)
    try {
      if ((await readCheckpoint(folder)) === undefined) continue
      await mkdir(directory)
      await copyLmdbStore(folder, directory)
      copied.push({ ...(await readCheckpoint(directory))!, directory })
    } catch (error) {
      // A generation that was discarded meanwhile is no flaw.
      if ((await storedGenerations(data)).some((each) => each.generation === generation))
        flaws.push({ ...flawOf(error), generation })
    }
  }
  return copied
}

/** Copies the rows of views; see `copyStates`. */
export async function copyStoredViews(data: string, temporary: string, flaws: Flaw[]) {
  try {
    return await copyViews(data, viewsIn(temporary))
  } catch (error) {
    flaws.push(flawOf(error))
    return []
  }
}

const viewsIn = (temporary: string) => join(temporary, 'views')

interface HistoryToVerify {
  readonly data: string
  readonly log: Log
  readonly states: readonly CopiedState[]
  readonly views: Awaited<ReturnType<typeof copyStoredViews>>
  readonly temporary: string
  readonly flaws: Flaw[]
  /** Called with the number of records that were derived since the last call. */
  readonly derived: (records: number) => void
}

/**
 * Derives every stored generation again from the first record on, and compares the parts of its imprint.
 * @throws HenceError what reading the log and the code throws
 */
export async function verifyHistory(given: HistoryToVerify): Promise<VerifiedHistory> {
  const { data, log, states, flaws } = given
  const { facts } = await findControls(log)
  const { kept, changed } = await checkCode(data)
  for (const file of changed) {
    const message = `${file} does not have the hash that it is named after. Put it back from a copy.`
    flaws.push({ code: 'code-changed-on-disk', message, file })
  }
  flaws.push(...(await checkPromotions(data, log, facts)))
  const live = liveOf(facts)
  // The others place their events where the live generation's stand, so the live one comes first.
  const inOrder = states.toSorted(
    (a, b) => Number(b.generation === live) - Number(a.generation === live) || a.generation - b.generation,
  )
  const generations: VerifiedGeneration[] = []
  let isDrained = false
  for (const state of inOrder) {
    const { generation, version } = state
    const isLive = generation === live
    const is = { generation, live: isLive, version }
    const reason =
      reasonAgainst(state, facts, log, kept, flaws) ?? (isLive || isDrained ? undefined : notDrained)
    if (reason !== undefined) {
      generations.push({ ...is, checked: false, reason })
      continue
    }
    try {
      const made = await deriveAgain(state, facts, given)
      if (isLive) isDrained = made.isDrained
      const { tables, records, imprint, views } = made
      generations.push({ ...is, checked: true, tables, records, imprint, ...(views.length > 0 && { views }) })
    } catch (error) {
      flaws.push({ ...flawOf(error), generation })
      generations.push({ ...is, checked: false, reason: 'deriving it failed, as reported above' })
    }
  }
  const ofLive = generations.find(({ live }) => live)
  if (ofLive === undefined) {
    const reason = 'no state was saved yet, so there is nothing to compare'
    return { checked: false, reason, generations }
  }
  const { generation: _g, live: _l, version: _v, ...history } = ofLive
  return { ...history, generations }
}

const notDrained = 'some events of the live generation are not in the log of their partition yet'

/** Why a generation is not derived again; undefined when it is. */
function reasonAgainst(
  state: CopiedState,
  facts: readonly ControlFact[],
  log: Log,
  kept: ReadonlySet<string>,
  flaws: Flaw[],
): string | undefined {
  const { generation, logId } = state
  if (logId !== log.id) {
    const message =
      `The state of generation ${generation} belongs to log ${logId}; the log here is ${log.id}. ` +
      'Remove the folder `state` while no process runs: the next start derives it again.'
    flaws.push({ code: 'state-of-another-log', message, generation })
    return 'it belongs to another log'
  }
  const wasLive = generation === 0 || facts.some((fact) => fact.generation === generation)
  if (!wasLive) return 'it is still being derived, and was never live'
  for (const version of versionsOf(state, facts)) {
    if (kept.has(version)) continue
    const reason = `the code of version ${version.slice(0, 12)} is not kept`
    // Only a log that begins with a record of its code was derived by code that is kept.
    if (facts[0]?.type === 'version' && facts[0].before === undefined) {
      const message =
        `Generation ${generation} cannot be derived again: ${reason}. Put ` +
        `\`code/${version}.js\` back from a copy.`
      flaws.push({ code: 'code-not-kept', message, generation })
    }
    return reason
  }
  return undefined
}

function versionsOf({ generation, version }: CheckpointSummary, facts: readonly ControlFact[]): Set<string> {
  const itsOwn = facts.filter((fact) => fact.generation === generation).map((fact) => fact.version)
  return new Set([baseOf(facts, generation) ?? version, ...itsOwn, version])
}

const todo =
  'Remove the folder `state` while no process runs: the next start derives it again. Then find out who wrote ' +
  'to it, or what in the code is not deterministic.'

async function deriveAgain(
  { generation, version, directory: copy }: CopiedState,
  facts: readonly ControlFact[],
  { data, log, temporary, flaws, derived, views }: HistoryToVerify,
) {
  const base = baseOf(facts, generation) ?? version
  const refold = await openRefold({ views, generation }, { data, log, folder: viewsIn(temporary) })
  const derive = (directory: string, watch?: Refold) => {
    let before = 0
    const host: GenerationHost = {
      log,
      openStore: (_, collections) => openLmdbStore({ directory, collections }),
      programOf: async (version) => sandboxed(await readCode(data, version)),
      checked: false,
    }
    return derivedDigests(
      host,
      lineageOf(facts, generation),
      base,
      (applied) => {
        derived(applied - before)
        before = applied
      },
      watch,
    )
  }
  const stored = await derive(copy)
  const again = await derive(join(temporary, `again-${generation}`), refold)
  assert(
    stored.records === again.records,
    'both derivations apply all records',
    stored.records,
    again.records,
  )
  for (const part of new Set([...again.imprint.parts.keys(), ...stored.imprint.parts.keys()])) {
    if (stored.imprint.parts.get(part) === again.imprint.parts.get(part)) continue
    const isTable = again.tables.has(part)
    const message =
      `${isTable ? `Table "${part}"` : `"${part}"`} of generation ${generation} is not what the log and the ` +
      `code derive. ${todo}`
    flaws.push({ code: isTable ? 'table-differs' : 'state-differs', message, generation })
  }
  const compared = refold.compare()
  for (const { difference } of compared) {
    if (difference === undefined) continue
    const message = `A view of generation ${generation} is not what the log and its code give: ${difference}. ${todo}`
    flaws.push({ code: 'table-differs', message, generation })
  }
  const { records, isDrained } = again
  const confirmed = compared.map(({ view: { name, sha256 } }) => ({ name, sha256 }))
  return { tables: again.tables.size, records, imprint: again.imprint.sha256, isDrained, views: confirmed }
}
