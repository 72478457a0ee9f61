import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { HenceError } from '../failure.ts'
import { type LogLook, lookAtLog } from '../log/file-log/look.ts'

/**
 * Looks at the log of a data directory, also while a process has it open.
 * @throws HenceError `no-log` (change) when there is none
 */
export async function lookAtData(directory: string): Promise<LogLook> {
  const look = await lookAtLog(directory)
  if (look) return look
  const there = await stat(directory).then(
    () => 'holds no log',
    () => 'does not exist',
  )
  throw new HenceError(
    'no-log',
    'change',
    `The directory ${resolve(directory)} ${there}. Give the one that \`hence start --data\` was given.`,
  )
}
