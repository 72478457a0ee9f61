import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Rehearsed } from '../audit/rehearsed.ts'
import { HenceError, operatorError, retryError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'
import { argvBeside, runApart } from '../generation/apart.ts'
import { moduleBeside } from '../module-beside.ts'

/** The parameters of a process that rehearses. */
export interface RehearsalOptions {
  readonly directory: string
  /** The live generation. */
  readonly generation: number
  readonly derivationMs: number
  /** By partition: how far it had come when the process was started. */
  readonly positions: readonly number[]
  /** Its share of the time. Default a tenth. */
  readonly share?: number
}

/** The line that the process prints; none if no state was saved yet. */
export type RehearsalLine = Rehearsed | { readonly differs: string }

/** The folder in a data directory with a copy of the live state, and what is derived beside it. */
export const rehearsalFolder = (directory: string) => join(directory, 'state', 'rehearsal')

/**
 * Derives the log again up to the last checkpoint, in a process of its own that works
 * a tenth of the time, and compares everything with the live state.
 * @returns undefined where there is nothing to compare
 */
export async function rehearse(
  options: RehearsalOptions,
  signal: AbortSignal,
): Promise<Rehearsed | undefined> {
  const mainModule = moduleBeside(import.meta.url, 'rehearsal-process')
  // An application that is bundled into one file has no such module.
  if (!existsSync(mainModule)) return undefined
  const folder = rehearsalFolder(options.directory)
  try {
    await rm(folder, { recursive: true, force: true })
    const { lines, errors } = await runApart(mainModule, options, argvBeside(), signal)
    const found = lines.at(-1) as RehearsalLine | undefined
    if (found !== undefined && 'differs' in found) throw differs(found.differs)
    if (found === undefined && errors !== '') throw new Error(errors)
    return found
  } catch (error) {
    if (error instanceof HenceError) throw error
    throw retryError(
      'rehearsal-failed',
      `The log could not be derived again to compare: ${reasonText(error)} It is tried again after the ` +
        'next reading of the log; the live state is not affected.',
      { cause: error },
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const differs = (what: string) =>
  operatorError(
    'rehearsal-differs',
    `The live state is not what the log and the code derive: ${what}. Stop the process and remove the folder ` +
      '`state`: the next start derives it again. Then find out who wrote to it, or what in the code is not ' +
      'deterministic.',
  )
