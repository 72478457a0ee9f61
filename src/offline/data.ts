import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { HenceError } from '../failure.ts'
import { endsRightAfter } from '../log/consistent-cut.ts'
import { type LogLook, lookAtLog } from '../log/file-log/snapshot.ts'
import { holderOf } from '../storage/directory-lock.ts'
import { lookedLog } from './snapshot-log.ts'

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

/** A log that was looked at, and where its partitions end at one moment for all of them. */
export interface SteadyLook {
  readonly look: LogLook
  /** Undefined: where they end. */
  readonly ends: readonly number[] | undefined
}

/**
 * Looks at the log of a data directory. Partitions are looked at one after the other; so while a process writes, a later one may
 * hold an event whose cause had not been written when an earlier one was looked at. Then they end before that, which leaves
 * out nothing that had been acknowledged when this began.
 * @throws HenceError `no-log` (change), and what reading the log throws
 */
export async function lookAtMoment(directory: string): Promise<SteadyLook> {
  const before = await holderOf(directory)
  const look = await lookAtData(directory)
  const holder = before ?? (await holderOf(directory))
  const isEnough = look.partitions.length === 1 || look.partitions.some(({ damage }) => damage)
  if (holder === undefined || isEnough) return { look, ends: undefined }
  try {
    return { look, ends: await endsTogether(look) }
  } catch (error) {
    // Whoever reads on meets the damage too, and tells of it.
    if (error instanceof HenceError) return { look, ends: undefined }
    throw error
  }
}

async function endsTogether(look: LogLook): Promise<number[]> {
  const last = look.partitions.flatMap(({ findings }, partition) => {
    const end = findings!.tip.offset
    return end === 0 ? [] : [[partition, end - 1] as const]
  })
  return endsRightAfter(lookedLog(look), new Map(last))
}
