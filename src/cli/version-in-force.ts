import { resolve } from 'node:path'
import { HenceError } from '../failure.ts'
import { lookAtState } from './state.ts'
import type { Survey } from './survey.ts'

/**
 * The version of the code that derives what is live at the end of a survey: the log tells, or else the derived state.
 * @throws HenceError `code-not-kept` (change) where neither does
 */
export async function versionInForce(data: string, { version }: Survey): Promise<string> {
  const known = version ?? (await lookAtState(data))?.version
  if (known !== undefined) return known
  throw new HenceError(
    'code-not-kept',
    'change',
    `Nothing tells which code derived what is in ${resolve(data)}: neither its log nor a saved state. Start it once with that code.`,
  )
}
