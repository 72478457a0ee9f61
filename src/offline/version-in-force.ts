import { resolve } from 'node:path'
import { changeError, HenceError } from '../failure.ts'
import { factOf, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import { type LogSnapshot, snapshotLog } from '../log/file-log/snapshot.ts'
import type { AppBundle } from '../sandbox/bundle.ts'
import { readLiveCheckpoint } from './checkpoints.ts'
import { readCode } from './code.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'

/** The version of the live tables at the end of a log, by the last checkpoint or control record. */
export async function versionInForce(data: string, snapshot: LogSnapshot): Promise<string> {
  const checkpoint = await readLiveCheckpoint(data)
  const from = checkpoint?.positions ?? snapshot.partitions.map(() => 0)
  const { facts, unfinished } = await findControls(logOfSnapshot(snapshot), from)
  const history = [...(checkpoint?.history ?? []), ...facts]
  // The next start completes a control record that is missing in some partitions.
  if (unfinished) history.push(factOf(unfinished.record.generation, unfinished.record.control, []))
  const version = versionOf(history, liveOf(history)) ?? checkpoint?.version
  if (version !== undefined) return version
  throw changeError(
    'code-not-kept',
    `Neither the log nor a checkpoint in ${resolve(data)} names the code that derived the tables. ` +
      "Name the app's module with --app, or start the app once.",
  )
}

/** The code that derives the live tables; undefined where there is no log, or the code is not kept. */
export async function codeInForce(data: string): Promise<AppBundle | undefined> {
  const snapshot = await snapshotLog(data)
  if (snapshot === undefined) return undefined
  try {
    return await readCode(data, await versionInForce(data, snapshot))
  } catch (error) {
    if (error instanceof HenceError && error.code === 'code-not-kept') return undefined
    throw error
  }
}
