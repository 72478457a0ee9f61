import { join } from 'node:path'
import type { Batch } from '../log.ts'
import { BatchIndex } from './batch-index.ts'
import { damageLocation } from './damage.ts'
import { type Disk, realDisk } from './disk.ts'
import { partitionFilesOf } from './file-log.ts'
import { readMeta } from './meta.ts'
import { type Findings, inspect, listSegments, type PartitionFiles } from './recovery.ts'
import { readSegment } from './segment-read.ts'

/** What reading alone tells of a log: for looking at it from outside, also while a process writes it. */
export interface LogSnapshot {
  readonly id: string
  readonly partitions: readonly PartitionSnapshot[]
}

export interface PartitionSnapshot {
  readonly files: PartitionFiles
  /** Undefined when it is damaged where it ends. */
  readonly findings: Findings | undefined
  /** What an opening would refuse it for. */
  readonly damage: Error | undefined
}

/**
 * Looks at the log of a data directory and changes nothing; undefined when there is none.
 * @throws HenceError `log-damaged`, `log-format-unknown` (operator) for the file that describes the log,
 *   `log-read-failed` (retry)
 */
export async function snapshotLog(
  directory: string,
  disk: Disk = realDisk,
): Promise<LogSnapshot | undefined> {
  const folder = join(directory, 'log')
  const meta = await readMeta(disk, folder)
  if (meta === undefined) return undefined
  const partitions: PartitionSnapshot[] = []
  for (const files of partitionFilesOf(disk, folder, meta)) partitions.push(await snapshotPartition(files))
  return { id: meta.logId, partitions }
}

/**
 * A batch that a process is writing right now looks torn at first and is followed by another one a moment later,
 * which makes it look damaged. Damage stays where it is when one looks again, and that does not.
 */
async function snapshotPartition(files: PartitionFiles): Promise<PartitionSnapshot> {
  for (let before: string | undefined; ; ) {
    try {
      return { files, findings: await inspect(files), damage: undefined }
    } catch (error) {
      if (damageLocation(error) === undefined) throw error
      const { message } = error as Error
      if (message === before) return { files, findings: undefined, damage: error as Error }
      before = message
    }
  }
}

/**
 * Reads what a partition held when it was looked at, from an offset on, and checks every byte of that; from 0 on, of all.
 * @throws HenceError `log-damaged` (operator), `log-read-failed` (retry); after the batches before the damage
 */
export async function* readSnapshot(
  { files, findings, damage }: PartitionSnapshot,
  from = 0,
): AsyncGenerator<Batch> {
  const segments = findings?.segments ?? (await listSegments(files))
  let previous: Buffer | undefined
  for (
    let number = Math.max(
      0,
      segments.findLastIndex(({ baseOffset }) => baseOffset <= from),
    );
    ;
    number++
  ) {
    const segment = segments[number]
    if (segment === undefined) break
    const isLast = number === segments.length - 1
    const limit = findings && isLast ? findings.tip.position : segment.size
    const index = new BatchIndex(segment.baseOffset)
    try {
      previous = yield* readSegment(files, segment, { from, previous, index, limit: () => limit })
    } catch (error) {
      // Where the end is not known, the reading runs into it; what is wrong there was found before.
      throw isLast && damage ? damage : error
    }
    if (previous === undefined) break
  }
  if (damage) throw damage
}
