import { findHeader, readHeader } from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import type { DamageLocation } from './damage.ts'
import { withFile } from './disk.ts'
import { listSegments, type PartitionFiles } from './partition-files.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { readSegment } from './segment-read.ts'
import { readBytes } from './segment-scan.ts'
import { copyAside } from './torn-tail.ts'

/** The plan to end a damaged partition before its damage, and its cost. A torn tail is no damage. */
export interface Truncation {
  readonly partition: number
  readonly file: string
  readonly byte: number
  /** The first offset that is lost; the partition ends here afterwards. */
  readonly from: number
  /**
   * The end of what is lost, as far as batch headers after the damage show it. Equal to `from` if there are
   * none; then nobody can know whether there was more.
   */
  readonly to: number
  /** The segments after the damage, which are lost whole. */
  readonly later: readonly string[]
}

/**
 * Works out what a truncation would lose; changes nothing. Undefined if none helps, because the damage is not
 * in a batch: it is in the header of the file, or the file is missing.
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
    to = Math.max(to, await endByHeaders(files, later, later === segment ? damage.byte : segmentHeaderBytes))
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
 * Ends a partition before its damage. Copies every affected segment aside first. The caller must hold the
 * directory's lock, and a person must have accepted the loss.
 * @returns the paths of the copies
 */
export async function truncatePartition(
  files: PartitionFiles,
  { file: path, byte, later }: Truncation,
): Promise<string[]> {
  const { disk, directory } = files
  const whole = [path, ...later].map((each) => ({ path: each, from: 0, to: Number.POSITIVE_INFINITY }))
  const copies = await copyAside(files, 'damaged', whole)

  // First, while later segments show that there was more: no crash leaves what looks like a torn end.
  await withFile(disk, path, 'write', async (file) => {
    await file.write(Buffer.alloc((await file.size()) - byte), byte)
    await file.sync('cut')
  })
  // From the last one on, one by one: there must be no gap in their numbers at any moment.
  for (const each of later.toReversed()) {
    await disk.remove(each)
    await disk.syncDirectory(directory, 'later segments')
  }
  return copies
}

/** Returns the offset that a batch at this position would have, if all before it is whole. */
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

/** Returns the end of the partition by the batch headers of a segment from a position on; 0 if there are none. */
async function endByHeaders(
  { disk, lineage }: PartitionFiles,
  segment: Segment,
  from: number,
): Promise<number> {
  const bytes = await withFile(disk, segment.path, 'read', (file) => readBytes(file, from, segment.size))
  let end = 0
  for (let at = findHeader(bytes, 0, lineage); at >= 0; at = findHeader(bytes, at + 1, lineage)) {
    const { baseOffset, count } = readHeader(bytes, at, lineage)!
    end = Math.max(end, baseOffset + count)
  }
  return end
}
