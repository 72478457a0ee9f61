import { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import { withFile } from './disk.ts'
import { listSegments, missing, type PartitionFiles } from './partition-files.ts'
import type { Segment } from './segment.ts'
import { scanSegment } from './segment-scan.ts'
import { continuedIn, emptyTip, type Tip } from './tip.ts'

/** The state of a partition's files, found by reading alone. */
export interface Findings {
  readonly segments: readonly Segment[]
  readonly index: BatchIndex
  readonly tip: Tip
  /** The position after the torn end of an unfinished write; equal to the tip's position if there is none. */
  readonly tornEnd: number
  /** The position of the last batch: in the last segment, or in the one before it if the last is still empty. */
  readonly lastBatch: { readonly path: string; readonly from: number; readonly to: number } | undefined
  /** The next segment, if a crash came after it was made and before the partition continued in it. */
  readonly unused: Segment | undefined
}

/**
 * Inspects a partition and changes nothing. Reads only the last segment whole (and the one before it, if the
 * last is still empty); earlier segments are checked each time they are read.
 */
export async function inspect(files: PartitionFiles): Promise<Findings> {
  const findings = await inspectLast(files, await listSegments(files))
  // A segment has its name, durably, before the one before it says that the partition continues.
  if (findings.tip.continued) throw missing(files.directory, findings.segments.length)
  return findings
}

async function inspectLast(files: PartitionFiles, segments: readonly Segment[]): Promise<Findings> {
  const last = segments.at(-1)!
  const index = new BatchIndex(last.baseOffset)
  const { tip, junkEnd } = await scanned(files, last, index)
  const found = { segments, index, tornEnd: junkEnd, unused: undefined }
  if (tip !== undefined) {
    return { ...found, tip, lastBatch: { path: last.path, from: tip.lastPosition!, to: tip.position } }
  }
  if (last.number === 0) return { ...found, tip: emptyTip, lastBatch: undefined }

  const before = await inspectLast(files, segments.slice(0, -1))
  if (before.tip.offset === last.baseOffset) {
    if (before.tip.continued) return { ...found, tip: continuedIn(before.tip), lastBatch: before.lastBatch }
    if (junkEnd === emptyTip.position) return { ...before, unused: last }
  }
  if (files.isCopy && before.tip.offset <= last.baseOffset) return { ...before, unused: last }
  throw damaged(before.segments.at(-1)!.path, before.tip.position, `it does not lead on to ${last.path}`)
}

const scanned = (files: PartitionFiles, segment: Segment, index: BatchIndex) =>
  withFile(files.disk, segment.path, 'read', (file) => scanSegment(file, segment, files, index))
