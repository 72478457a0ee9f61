import { basename } from 'node:path'
import { HenceError } from '../failure.ts'
import { baseOf, type ControlFact, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { codeName } from '../storage/storage.ts'
import { checkCode } from './code.ts'
import type { Finding, Remedies, Say } from './finding.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { checkPromotions } from './promotions.ts'
import { type CheckpointSummary, keptStates, readCheckpoint } from './state.ts'

/**
 * Looks at what is kept beside a log: the state of each generation, the code that derived it, and the corrections that
 * promotions have to write.
 * @param ends the offset where each partition ends; undefined where it is damaged
 */
export async function examineState(
  data: string,
  snapshot: LogSnapshot,
  ends: readonly (number | undefined)[],
  say: Say,
  remedies: Remedies,
): Promise<void> {
  const facts = await examineControls(data, snapshot, ends, say)
  const states = await keptStates(data)
  // Where the log does not tell, because it is damaged, what is there may be any of them.
  const live = facts && liveOf(facts)
  const found = new Map<number, CheckpointSummary>()
  for (const { generation, folder } of states) {
    const isLive = generation === (live ?? generation)
    const state = await examineGeneration(
      folder,
      { generation, isLive, facts },
      snapshot,
      ends,
      say,
      remedies,
    )
    if (state !== undefined) found.set(generation, state)
  }
  const isThere =
    live === undefined ? states.length > 0 : states.some(({ generation }) => generation === live)
  if (!isThere) say('fine', 'no-state', 'No derived state was saved yet; a start derives it from the log.')
  await examineCode(data, facts, found, say)
}

/** The control records of a log, and what they need; undefined where the log is damaged. */
async function examineControls(
  data: string,
  snapshot: LogSnapshot,
  ends: readonly (number | undefined)[],
  say: Say,
): Promise<readonly ControlFact[] | undefined> {
  if (ends.includes(undefined)) return undefined
  const log = logOfSnapshot(snapshot)
  const { facts, unfinished } = await findControls(
    log,
    ends.map(() => 0),
  )
  if (unfinished !== undefined) {
    const { record, missing } = unfinished
    say(
      'mended',
      'control-unfinished',
      `Control record ${record.control.number} (${record.control.type}) is missing in ${missing.length} of ${ends.length} partitions. ` +
        'A start writes it there before anything else.',
    )
  }
  for (const { code, message, ...place } of await checkPromotions(data, log, facts)) {
    say('wrong', code, message, { ...place, todo: 'Put the file back from a copy of the data directory.' })
  }
  return facts
}

async function examineGeneration(
  folder: string,
  is: {
    readonly generation: number
    readonly isLive: boolean
    readonly facts: readonly ControlFact[] | undefined
  },
  snapshot: LogSnapshot,
  ends: readonly (number | undefined)[],
  say: Say,
  remedies: Remedies,
): Promise<CheckpointSummary | undefined> {
  const { generation, isLive, facts } = is
  const more: Partial<Finding> = { generation }
  const useless = (code: string, message: string) => {
    if (isLive) remedies.state = message
    else remedies.generations.push({ name: `state/${generation}`, why: message })
    const what = isLive ? 'state' : `state/${generation}`
    const todo = `Remove the folder \`${what}\` (\`--repair\` sets it aside): everything in it is derived again from the log.`
    say('wrong', code, message, { ...more, todo })
  }
  let state: CheckpointSummary | undefined
  try {
    state = await readCheckpoint(folder)
  } catch (error) {
    if (!(error instanceof HenceError) || error.code !== 'state-unreadable') throw error
    useless(error.code, error.message)
    return undefined
  }
  if (state === undefined) {
    say('fine', 'no-state', `Nothing of generation ${generation} was saved yet.`, more)
    return undefined
  }
  const { logId, positions } = state
  if (logId !== snapshot.id || positions.length !== snapshot.partitions.length) {
    const message = `The derived state of generation ${generation} belongs to log ${logId}; the log here is ${snapshot.id}.`
    useless('state-of-another-log', message)
    return undefined
  }
  const which = `Generation ${generation}, ${standingOf(generation, isLive, facts)},`
  const ahead = positions.findIndex((position, partition) => position > (ends[partition] ?? position))
  if (ahead >= 0) {
    say(
      'wrong',
      'log-shorter-than-state',
      `Partition ${ahead} ends at offset ${ends[ahead]}, but the tables of generation ${generation} were derived from ${positions[ahead]} records: a part of the log is gone.`,
      { ...more, todo: 'Put the log back from a copy. Only if there is none, remove the folder `state`.' },
    )
  } else {
    const behind = positions.reduce((sum, at, partition) => sum + ((ends[partition] ?? at) - at), 0)
    say('fine', 'state', `${which} can be read; a start derives ${behind} records that came after it.`, more)
  }
  return state
}

function standingOf(generation: number, isLive: boolean, facts: readonly ControlFact[] | undefined): string {
  if (facts === undefined) return 'of which the log does not tell whether it is live'
  if (isLive) return 'which is live'
  const wasLive = generation === 0 || facts.some((fact) => fact.generation === generation)
  return wasLive ? 'which was live and is kept for the way back' : 'which is being derived'
}

/** The code that a generation needs: of what comes next, and of all that it would have to derive again. */
async function examineCode(
  data: string,
  facts: readonly ControlFact[] | undefined,
  states: ReadonlyMap<number, CheckpointSummary>,
  say: Say,
): Promise<void> {
  const { kept, changed } = await checkCode(data)
  const needed = new Map<string, number>()
  const live = facts && liveOf(facts)
  for (const [generation, { version }] of states) needed.set(version, generation)
  for (const generation of new Set([...states.keys(), ...(live === undefined ? [] : [live])])) {
    for (const fact of facts ?? []) if (fact.generation === generation) needed.set(fact.version, generation)
    const base = baseOf(facts ?? [], generation)
    if (base !== undefined) needed.set(base, generation)
  }
  const inForce = live === undefined ? undefined : versionOf(facts!, live)
  for (const file of changed) {
    const isMended = basename(file) === basename(codeName(inForce ?? ''))
    say(
      isMended ? 'mended' : 'wrong',
      'code-changed-on-disk',
      `${file} is not the code that its name says.`,
      {
        file,
        todo: isMended
          ? 'Find out who changed it. A start with the same code puts it right.'
          : 'Put the file back from a copy.',
      },
    )
  }
  // A log that begins with a record of its code was derived by code that is kept; other apps keep none.
  const isKept = facts?.[0]?.type === 'version' && facts[0].before === undefined
  for (const [version, generation] of needed) {
    const name = version.slice(0, 12)
    if (kept.has(version)) {
      say('fine', 'code', `The code of version ${name}, of generation ${generation}, is kept.`)
    } else if (!isKept || version === inForce) {
      say(
        'fine',
        'code-not-kept',
        `The code of version ${name}, of generation ${generation}, is not kept here; a start with it keeps it.`,
      )
    } else {
      say(
        'wrong',
        'code-not-kept',
        `The code of version ${name}, by which generation ${generation} was derived, is not kept here.`,
        {
          generation,
          todo: `Put \`code/${version}.js\` back from a copy. Without it the generation cannot be derived again.`,
        },
      )
    }
  }
}
