import { basename, dirname, join } from 'node:path'
import { findHeader, readHeader } from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import type { DamageLocation } from './damage.ts'
import { type Disk, makeDirectories } from './disk.ts'
import { listSegments, type PartitionFiles } from './recovery.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { readSegment } from './segment-read.ts'
import { readBytes } from './segment-scan.ts'

/** What it takes, and what it costs, to end a damaged partition before its damage. */
export interface Truncation {
  readonly partition: number
  /** The segment that is cut, and where. */
  readonly file: string
  readonly byte: number
  /** The first offset that is lost; the partition ends here afterwards. */
  readonly from: number
  /**
   * The end of what is lost, as far as anything behind the damage tells: equal to `from` when nothing does, and
   * then it cannot be known whether there was more.
   */
  readonly to: number
  /** The segments behind the damage, which are lost whole. */
  readonly later: readonly string[]
}

/**
 * Works out what a cut would lose; changes nothing. Undefined when no cut helps, since what is damaged is not a
 * batch: the file's own header, or a file that is missing.
 */
export async function planTruncation(
  files: PartitionFiles,
  damage: DamageLocation,
): Promise<Truncation | undefined> {
  let segments: readonly Segment[]
  try {
    segments = await listSegments(files)
  } catch {
    return undefined
  }
  const at = segments.findIndex(({ path }) => path === damage.file)
  if (at < 0 || damage.byte < segmentHeaderBytes) return undefined
  const segment = segments[at]!
  const from = await offsetAt(files, segment, damage.byte)
  let to = from
  for (const later of segments.slice(at)) {
    to = Math.max(to, await endTold(files, later, later === segment ? damage.byte : segmentHeaderBytes))
  }
  return {
    partition: files.lineage.partition,
    file: segment.path,
    byte: damage.byte,
    from,
    to,
    later: segments.slice(at + 1).map(({ path }) => path),
  }
}

/**
 * Ends a partition before its damage. Everything that is cut off is copied aside first. The caller must hold the
 * directory's lock, and somebody must have agreed to the loss.
 * @returns the copies
 */
export async function truncatePartition(
  { disk, directory }: PartitionFiles,
  truncation: Truncation,
): Promise<string[]> {
  const folder = join(dirname(directory), 'damaged')
  await makeDirectories(disk, folder, 'damaged copy')
  const taken = (await disk.list(folder))!.map((name) => Number.parseInt(name, 10) || 0)
  const number = String(Math.max(0, ...taken) + 1).padStart(4, '0')
  const copies: string[] = []
  for (const path of [truncation.file, ...truncation.later]) {
    const copy = join(folder, `${number}-${basename(directory)}-${basename(path)}`)
    await copyFile(disk, path, copy)
    copies.push(copy)
  }
  await disk.syncDirectory(folder, 'damaged copy')

  // First this, while later segments show that there was more: whatever a crash leaves is never taken for a torn end.
  const file = await disk.open(truncation.file, 'write')
  try {
    await file.write(Buffer.alloc((await file.size()) - truncation.byte), truncation.byte)
    await file.sync('cut')
  } finally {
    await file.close()
  }
  // From the last one on, and one by one: there must be no gap in their numbers at any moment.
  for (const path of truncation.later.toReversed()) {
    await disk.remove(path)
    await disk.syncDirectory(directory, 'later segments')
  }
  return copies
}

async function copyFile(disk: Disk, from: string, to: string): Promise<void> {
  const source = await disk.open(from, 'read')
  try {
    const copy = await disk.open(to, 'create')
    try {
      await copy.write(await readBytes(source, 0, await source.size()), 0)
      await copy.sync('damaged copy')
    } finally {
      await copy.close()
    }
  } finally {
    await source.close()
  }
}

/** The offset that a batch at this position has, if all before it is whole. */
async function offsetAt(files: PartitionFiles, segment: Segment, position: number): Promise<number> {
  let offset = segment.baseOffset
  const index = new BatchIndex(offset)
  const batches = readSegment(files, segment, {
    from: offset,
    previous: undefined,
    index,
    limit: () => position,
  })
  for await (const batch of batches) offset = batch.offset + batch.records.length
  return offset
}

/** The end of the partition as the batch headers of a segment tell it, from a position on; 0 when none does. */
async function endTold({ disk, lineage }: PartitionFiles, segment: Segment, from: number): Promise<number> {
  const file = await disk.open(segment.path, 'read')
  try {
    const bytes = await readBytes(file, from, segment.size)
    let end = 0
    for (let at = findHeader(bytes, 0, lineage); at >= 0; at = findHeader(bytes, at + 1, lineage)) {
      const { baseOffset, count } = readHeader(bytes, at, lineage)!
      end = Math.max(end, baseOffset + count)
    }
    return end
  } finally {
    await file.close()
  }
}
