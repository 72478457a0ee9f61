import { resolve } from 'node:path'
import { lookedLog } from '../audit/looked-log.ts'
import { findControls } from '../derivation/controls.ts'
import { HenceError } from '../failure.ts'
import type { LogLook } from '../log/file-log/look.ts'
import { lookAtState } from './state.ts'

/**
 * The version of the code that derives what is live at the end of a log. The last checkpoint tells, and the log behind it where
 * other code took over since.
 * @throws HenceError `code-not-kept` (change) where neither does
 */
export async function versionInForce(data: string, look: LogLook): Promise<string> {
  const state = await lookAtState(data)
  const from = state?.positions ?? look.partitions.map(() => 0)
  const { facts, unfinished } = await findControls(lookedLog(look), from)
  let live = state?.generation ?? 0
  let version = state?.version
  // A start finishes what a process that ended had begun to write.
  const begun = unfinished && { ...unfinished.record, ...unfinished.record.control }
  for (const each of begun ? [...facts, begun] : facts) {
    if (each.type === 'promotion') live = each.generation
    if (each.generation === live) version = each.version
  }
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
