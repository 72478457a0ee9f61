import { basename } from 'node:path'
import { HenceError } from '../failure.ts'
import { keptCode } from '../generation/codes.ts'
import { baseOf, type ControlFact, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { otherBranch } from '../log/links.ts'
import { counted } from '../plain-text.ts'
import { linksOf } from '../processor/checkpoint.ts'
import { sandboxedViews } from '../sandbox/program.ts'
import { decodeKey } from '../state/keys.ts'
import { checkLmdbStore, isUseless } from '../state/lmdb-check.ts'
import { stateFolder } from '../storage/states.ts'
import { codeName, kept } from '../storage/storage.ts'
import { type ManifestEntry, storeOf } from '../view/fold.ts'
import { readViewsManifest } from '../view/manifest.ts'
import { checkSql, openSql, sqlFile, wrongColumns } from '../view/sql.ts'
import { checkPromotions } from './check-promotions.ts'
import { type CheckpointSummary, readCheckpoint, storedGenerations } from './checkpoints.ts'
import { checkCode } from './code.ts'
import type { AddFinding } from './finding.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'

/** A folder of state that is of no use, and why. */
export interface UselessState {
  /** `state` for that of the live generation, else `state/N`. */
  readonly folder: string
  readonly reason: string
}

interface Examination {
  readonly data: string
  readonly snapshot: LogSnapshot
  /** The offset at which each partition ends; undefined where it is damaged. */
  readonly ends: readonly (number | undefined)[]
  readonly add: AddFinding
  readonly useless: UselessState[]
}

/** Examines the files beside a log: the states, their code, and corrections that are yet to be written. */
export async function examineState(examination: Examination): Promise<void> {
  const { data, add } = examination
  const facts = await examineControls(examination)
  const stored = await storedGenerations(data)
  // A damaged log does not say which generation is live: it may be any of them.
  const live = facts && liveOf(facts)
  const found = new Map<number, CheckpointSummary>()
  for (const { generation, folder } of stored) {
    const isLive = generation === (live ?? generation)
    const checkpoint = await examineGeneration(folder, { generation, isLive, facts }, examination)
    if (checkpoint !== undefined) found.set(generation, checkpoint)
  }
  const hasLive =
    live === undefined ? stored.length > 0 : stored.some(({ generation }) => generation === live)
  if (!hasLive)
    add('fine', 'no-state', 'No derived state was saved yet. The next start derives it from the log.')
  await examineCode(data, facts, found, add)
  await examineViews(data, add)
}

/** The rows of views, which a start derives again where they are of no use. */
async function examineViews(data: string, add: AddFinding): Promise<void> {
  const { answering, building } = await readViewsManifest((name) => kept(data, name))
  for (const view of [...answering, ...building]) {
    const todo = 'Start with mended code of the view; the next start derives it again.'
    if (view.failed !== undefined) add('warning', 'view-failed', view.failed, { todo })
    try {
      if (view.sql === undefined) await checkLmdbStore(stateFolder(data, storeOf(view)), { isInUse: true })
      else {
        checkSql(openSql(data)).close()
        await examineColumns(data, view, add)
      }
    } catch (error) {
      if (view.sql === undefined && !isUseless(error)) throw error
      const { code, message, cause } = error as HenceError
      const isThere = (cause as NodeJS.ErrnoException | undefined)?.code !== 'ENOENT'
      if (code === 'file-unusable' && isThere) add('wrong', code, message)
      else add('mended', 'state-unreadable', `The view "${view.name}": ${message}`)
    }
  }
}

async function examineColumns(data: string, of: ManifestEntry, add: AddFinding): Promise<void> {
  const code = await keptCode((name) => kept(data, name), of.version).catch(() => undefined)
  const view = code && sandboxedViews(code).views.get(of.name)
  const [wrong] = view === undefined ? [] : wrongColumns(data, storeOf(of), view)
  if (wrong === undefined) return
  const { parts } = decodeKey(['string', ...view!.parts], wrong)
  const message = `The row ${JSON.stringify(parts)} of the view "${of.name}" has other values in its columns.`
  const todo = `Stop the process and remove \`${sqlFile}\`: the next start derives it again.`
  add('warning', 'state-unreadable', message, { todo })
}

/** @returns the control records of the log; undefined where it is damaged */
async function examineControls({
  data,
  snapshot,
  ends,
  add,
}: Examination): Promise<readonly ControlFact[] | undefined> {
  if (ends.includes(undefined)) return undefined
  const log = logOfSnapshot(snapshot)
  const { facts, unfinished } = await findControls(log)
  if (unfinished !== undefined) {
    const { record, missing } = unfinished
    const message =
      `Control record ${record.control.number} (${record.control.type}) is missing in ${missing.length} ` +
      `of ${ends.length} partitions. The next start writes it there before anything else.`
    add('mended', 'control-unfinished', message)
  }
  for (const { code, message, isNeeded, ...place } of await checkPromotions(data, log, facts)) {
    const todo = 'Put the file back from a copy of the data directory.'
    add(isNeeded ? 'wrong' : 'warning', code, message, { ...place, todo })
  }
  return facts
}

interface GenerationRole {
  readonly generation: number
  readonly isLive: boolean
  readonly facts: readonly ControlFact[] | undefined
}

/** @returns the checkpoint of a generation, if it is of use */
async function examineGeneration(
  folder: string,
  role: GenerationRole,
  { snapshot, ends, add, useless }: Examination,
): Promise<CheckpointSummary | undefined> {
  const { generation, isLive } = role
  const addUseless = (code: string, message: string) => {
    const name = isLive ? 'state' : `state/${generation}`
    useless.push({ folder: name, reason: message })
    const todo =
      `Remove the folder \`${name}\`, or have \`hence doctor --repair\` set it aside. ` +
      'The next start derives everything in it again from the log.'
    add('wrong', code, message, { generation, todo })
  }
  let checkpoint: CheckpointSummary | undefined
  try {
    checkpoint = await readCheckpoint(folder)
  } catch (error) {
    if (!(error instanceof HenceError) || error.code !== 'state-unreadable') throw error
    if (!isUseless(error)) addUseless(error.code, error.message)
    else add('mended', error.code, error.message, { generation })
    return undefined
  }
  if (checkpoint === undefined) {
    add('fine', 'no-state', `Nothing of generation ${generation} was saved yet.`, { generation })
    return undefined
  }
  const { logId, positions } = checkpoint
  if (logId !== snapshot.id || positions.length !== snapshot.partitions.length) {
    const message = `The derived state of generation ${generation} belongs to log ${logId}; the log here is ${snapshot.id}.`
    addUseless('state-of-another-log', message)
    return undefined
  }
  // A log that is damaged cannot be compared; that is a finding of its own.
  const isWhole = !ends.includes(undefined)
  const ahead = positions.findIndex((position, partition) => position > (ends[partition] ?? position))
  if (ahead >= 0) {
    const message =
      `Partition ${ahead} ends at offset ${ends[ahead]}, but the tables of generation ${generation} were ` +
      `derived from ${positions[ahead]} records: a part of the log is missing.`
    const todo = 'Put the log back from a copy. Only if there is none, remove the folder `state`.'
    add('wrong', 'log-shorter-than-state', message, { generation, todo })
  } else if (isWhole && (await otherBranch(logOfSnapshot(snapshot), linksOf(checkpoint))) !== undefined) {
    addUseless(
      'state-of-another-log',
      `The derived state of generation ${generation} was derived from other records than this log has: it ` +
        'is that of a copy of the directory that went on by itself.',
    )
    return undefined
  } else {
    const behind = positions.reduce((sum, at, partition) => sum + ((ends[partition] ?? at) - at), 0)
    const message =
      `Generation ${generation}, ${roleText(role)}, can be read. The next start derives the ` +
      `${counted(behind, 'record')} after its checkpoint.`
    add('fine', 'state', message, { generation })
  }
  return checkpoint
}

function roleText({ generation, isLive, facts }: GenerationRole): string {
  if (facts === undefined) return 'which may be live (the damaged log does not say)'
  if (isLive) return 'which is live'
  const wasLive = generation === 0 || facts.some((fact) => fact.generation === generation)
  return wasLive ? 'which was live and is kept for the way back' : 'which is being derived'
}

/** Checks that the code is kept that each generation needs, for the next records and for its own. */
async function examineCode(
  data: string,
  facts: readonly ControlFact[] | undefined,
  checkpoints: ReadonlyMap<number, CheckpointSummary>,
  add: AddFinding,
): Promise<void> {
  const { kept, changed } = await checkCode(data)
  const needed = new Map<string, number>()
  const live = facts && liveOf(facts)
  for (const [generation, { version }] of checkpoints) needed.set(version, generation)
  for (const generation of new Set([...checkpoints.keys(), ...(live === undefined ? [] : [live])])) {
    for (const fact of facts ?? []) if (fact.generation === generation) needed.set(fact.version, generation)
    const base = baseOf(facts ?? [], generation)
    if (base !== undefined) needed.set(base, generation)
  }
  const inForce = live === undefined ? undefined : versionOf(facts!, live)
  /** Whether the next start derives by a version, and not only one that must derive the past again. */
  const isNext = (version: string): boolean => {
    const generation = needed.get(version)
    const saved = checkpoints.get(generation ?? -1)?.version
    if (generation !== (live ?? generation) || saved === undefined) return generation === (live ?? generation)
    const versions = (facts ?? [])
      .filter((fact) => fact.generation === generation)
      .map((fact) => fact.version)
    return version === saved || versions.lastIndexOf(version) > versions.lastIndexOf(saved)
  }
  for (const file of changed) {
    // A start writes the code that it is given.
    const isMended = basename(file) === basename(codeName(inForce ?? ''))
    const todo = isMended
      ? 'Find out who changed it. A start with the same code writes it again.'
      : 'Put the file back from a copy.'
    const message = `${file} does not have the hash that it is named after.`
    const level = isMended ? 'mended' : isNext(basename(file, '.js')) ? 'wrong' : 'warning'
    add(level, 'code-changed-on-disk', message, { file, todo })
  }
  // Only a log that begins with a record of its code was derived by code that is kept.
  const isKept = facts?.[0]?.type === 'version' && facts[0].before === undefined
  for (const [version, generation] of needed) {
    const name = version.slice(0, 12)
    if (kept.has(version)) {
      add('fine', 'code', `The code of version ${name}, of generation ${generation}, is kept.`)
    } else if (!isKept || version === inForce) {
      const message = `The code of version ${name}, of generation ${generation}, is not kept here. A start with it keeps it.`
      add('fine', 'code-not-kept', message)
    } else {
      const message = `The code of version ${name}, which derived generation ${generation}, is not kept here.`
      const todo = `Put \`code/${version}.js\` back from a copy. Without it the generation cannot be derived again.`
      add(isNext(version) ? 'wrong' : 'warning', 'code-not-kept', message, { generation, todo })
    }
  }
}
