import { resolve } from 'node:path'
import { HenceError } from '../failure.ts'
import { factOf, liveOf, versionOf } from '../log/control-history.ts'
import { findControls } from '../log/controls.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { readLiveCheckpoint } from './state.ts'

/**
 * The version of the code that derives what is live at the end of a log. The last checkpoint tells, and the log behind it where
 * other code took over since.
 * @throws HenceError `code-not-kept` (change) where neither does
 */
export async function versionInForce(data: string, snapshot: LogSnapshot): Promise<string> {
  const state = await readLiveCheckpoint(data)
  const from = state?.positions ?? snapshot.partitions.map(() => 0)
  const { facts, unfinished } = await findControls(logOfSnapshot(snapshot), from)
  const history = [...(state?.history ?? []), ...facts]
  // A start finishes what a process that ended had begun to write.
  if (unfinished) history.push(factOf(unfinished.record.generation, unfinished.record.control, []))
  const version = versionOf(history, liveOf(history)) ?? state?.version
  if (version !== undefined) return version
  throw unknownVersion(data)
}

export function unknownVersion(data: string): HenceError {
  return new HenceError(
    'code-not-kept',
    'change',
    `Nothing tells which code derived what is in ${resolve(data)}: neither its log nor a saved state. Name the app's module with --app, ` +
      'or start it once with that code.',
  )
}
