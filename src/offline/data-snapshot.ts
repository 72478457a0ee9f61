import { resolve } from 'node:path'
import { changeError, HenceError } from '../failure.ts'
import { withFileFailure } from '../file-failure.ts'
import { endsRightAfter } from '../log/consistent-cut.ts'
import { type LogSnapshot, snapshotLog } from '../log/file-log/snapshot.ts'
import { lockHolderOf } from '../storage/directory-lock.ts'
import { checkCopied } from '../storage/layout.ts'
import { fileExists } from '../storage/text-file.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'

/**
 * Takes a snapshot of the log of a data directory; a process may have it open.
 * @throws HenceError `no-log` (change) when there is none; `copy-unfinished`, `file-unusable` (operator)
 */
export async function snapshotData(directory: string): Promise<LogSnapshot> {
  await checkCopied(directory)
  const snapshot = await withFileFailure(snapshotLog(directory))
  if (snapshot) return snapshot
  const what = (await fileExists(directory)) ? 'holds no log' : 'does not exist'
  throw changeError(
    'no-log',
    `The directory ${resolve(directory)} ${what}. Give the data directory of the app: the one that ` +
      `\`hence start\` uses.`,
  )
}

/** A snapshot of a log, and the offsets at which its partitions end at one moment. */
export interface ConsistentSnapshot {
  readonly snapshot: LogSnapshot
  /** Undefined: the ends of the snapshot. */
  readonly ends: readonly number[] | undefined
}

/**
 * Takes a snapshot of the log of a data directory that holds no event without its cause. Partitions are read
 * one after the other, so while a process writes, a later partition may hold an event whose cause was written
 * after the earlier partition was read. Such an event is left out, and nothing that was acknowledged before
 * the call.
 */
export async function snapshotConsistently(directory: string): Promise<ConsistentSnapshot> {
  const before = await lockHolderOf(directory)
  const snapshot = await snapshotData(directory)
  const holder = before ?? (await lockHolderOf(directory))
  const isEnough = snapshot.partitions.length === 1 || snapshot.partitions.some(({ damage }) => damage)
  if (holder === undefined || isEnough) return { snapshot, ends: undefined }
  try {
    return { snapshot, ends: await endsTogether(snapshot) }
  } catch (error) {
    // The caller meets the same damage when it reads on, and reports it.
    if (error instanceof HenceError) return { snapshot, ends: undefined }
    throw error
  }
}

/** How many records a snapshot holds, as far as the ends of its partitions are known. */
export function recordsIn({ partitions }: LogSnapshot): number {
  return partitions.reduce((sum, { findings }) => sum + (findings?.tip.offset ?? 0), 0)
}

async function endsTogether(snapshot: LogSnapshot): Promise<number[]> {
  const last = snapshot.partitions.flatMap(({ findings }, partition) => {
    const end = findings!.tip.offset
    return end === 0 ? [] : [[partition, end - 1] as const]
  })
  return endsRightAfter(logOfSnapshot(snapshot), new Map(last))
}
