import { join } from 'node:path'
import type { HenceError } from '../../failure.ts'
import type { Lineage } from './batch.ts'
import { damaged } from './damage.ts'
import { type Disk, withFile } from './disk.ts'
import { type Meta, metaPath } from './meta.ts'
import {
  checkSegment,
  makeSegment,
  parseSegmentName,
  type Segment,
  segmentHeaderBytes,
  segmentName,
  spareName,
} from './segment.ts'
import { findJunkEnd, readBytes } from './segment-scan.ts'

/** Where the files of a partition are, and what its headers say: shared by recovery, writing and reading. */
export interface PartitionFiles {
  readonly disk: Disk
  readonly directory: string
  readonly lineage: Lineage
  /** Whether a carrier has the truth, so that what is missing at the end is fetched again. */
  readonly isCopy: boolean
}

/** Returns the files of each partition of a log whose folder is `directory`. */
export function partitionFilesOf(
  disk: Disk,
  directory: string,
  meta: Meta,
  isCopy = false,
): PartitionFiles[] {
  const logId = Buffer.from(meta.logId, 'hex')
  return Array.from({ length: meta.partitions }, (_, partition) => ({
    disk,
    directory: join(directory, `p${String(partition).padStart(4, '0')}`),
    lineage: { logId, partition },
    isCopy,
  }))
}

/**
 * The files of a log without `meta.json`, whose making was not finished.
 * @throws HenceError `log-damaged` (operator) if one of them holds a record
 */
export async function unfinishedFiles(disk: Disk, log: string): Promise<string[]> {
  const found: string[] = []
  for (const folder of (await disk.list(log)) ?? []) {
    if (!/^p\d{4}$/.test(folder)) continue
    for (const name of (await disk.list(join(log, folder)))!) {
      if (name !== spareName && parseSegmentName(name) === undefined) continue
      const path = join(log, folder, name)
      await withFile(disk, path, 'read', async (file) => {
        if ((await findJunkEnd(file, await file.size(), segmentHeaderBytes)) > segmentHeaderBytes)
          throw damaged(metaPath(log), 0, `it is missing, though ${path} holds data`)
      })
      found.push(path)
    }
  }
  return found
}

/**
 * Lists the segments of a partition in order, and checks the header and size of each.
 * @throws HenceError `log-damaged` (operator) for a gap in their numbers, or without any
 */
export async function listSegments({ disk, directory, lineage }: PartitionFiles): Promise<Segment[]> {
  const found = ((await disk.list(directory)) ?? []).flatMap((name) => {
    const parsed = parseSegmentName(name)
    return parsed === undefined ? [] : { name, ...parsed }
  })
  const segments: Segment[] = []
  for (const { name, number, baseOffset } of found.sort((a, b) => a.number - b.number)) {
    if (number !== segments.length) throw missing(directory, segments.length)
    const path = join(directory, name)
    const size = await withFile(disk, path, 'read', (file) => checkSegment(file, path, lineage))
    segments.push({ number, baseOffset, path, size })
  }
  if (segments.length === 0) throw missing(directory, 0)
  return segments
}

export function missing(directory: string, number: number): HenceError {
  return damaged(directory, 0, `segment ${number} is missing`)
}

/** Makes the next segment under a name outside the partition, replacing one there; returns its size. */
export async function makeSpare(files: PartitionFiles, bytes: number): Promise<number> {
  const { disk, directory, lineage } = files
  const path = join(directory, spareName)
  if ((await disk.list(directory))!.includes(spareName)) await disk.remove(path)
  await makeSegment(disk, path, lineage, bytes)
  return bytes
}

/** Replaces a segment by a larger one with the same bytes up to a position. */
export async function growSegment(
  files: PartitionFiles,
  segment: Segment,
  position: number,
  bytes: number,
): Promise<Segment> {
  const { disk, directory } = files
  const path = join(directory, spareName)
  await makeSpare(files, bytes)
  const kept = await withFile(disk, segment.path, 'read', (from) =>
    readBytes(from, segmentHeaderBytes, position),
  )
  await withFile(disk, path, 'write', async (to) => {
    await to.write(kept, segmentHeaderBytes)
    await to.sync('grown segment')
  })
  await disk.rename(path, segment.path)
  await disk.syncDirectory(directory, 'grown segment')
  return { ...segment, size: bytes }
}

/** Gives the spare its name in the partition, durably. */
export async function adoptSpare(
  { disk, directory }: PartitionFiles,
  number: number,
  baseOffset: number,
  bytes: number,
): Promise<Segment> {
  const path = join(directory, segmentName(number, baseOffset))
  await disk.rename(join(directory, spareName), path)
  await disk.syncDirectory(directory, 'next segment')
  return { number, baseOffset, path, size: bytes }
}
