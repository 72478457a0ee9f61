import { assert } from '../../assert.ts'
import type { Report, Reporter } from '../../report.ts'
import { copyAside } from './aside.ts'
import { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import { listSegments, missing, type PartitionFiles } from './partition-files.ts'
import type { Segment } from './segment.ts'
import { readBytes, scanSegment } from './segment-scan.ts'
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
 * Inspects a partition and changes nothing. Reads only the last segment whole (and the one before it, if the last is
 * still empty); earlier segments are checked each time they are read.
 * @throws HenceError `log-damaged` (operator), `log-read-failed` (retry)
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
    if (before.tip.continued) {
      return { ...found, tip: continuedIn(before.tip), lastBatch: before.lastBatch }
    }
    if (junkEnd === emptyTip.position) return { ...before, unused: last }
  }
  throw damaged(before.segments.at(-1)!.path, before.tip.position, `it does not lead on to ${last.path}`)
}

/**
 * Repairs what a crash left: removes a torn end, and makes durable everything that was found. A file may hold bytes that
 * are not on the disk yet, if only the process died and the machine kept running.
 */
export async function mend(files: PartitionFiles, findings: Findings, report: Reporter): Promise<void> {
  const { disk, directory } = files
  const { tip, tornEnd, lastBatch } = findings
  assert(tornEnd >= tip.position, 'a torn end is after the last whole batch', tornEnd, tip.position)
  const { path } = findings.segments.at(-1)!
  if (findings.unused !== undefined) await disk.remove(findings.unused.path)
  await disk.syncDirectory(directory, 'recovered names')

  if (lastBatch !== undefined) {
    const file = await disk.open(lastBatch.path, 'write')
    try {
      // Written again: after a failed fsync the system may take a page for clean that it never wrote.
      await file.write(await readBytes(file, lastBatch.from, lastBatch.to), lastBatch.from)
      await file.sync('recovered batch')
    } finally {
      await file.close()
    }
  }
  if (tornEnd === tip.position) return
  const file = await disk.open(path, 'write')
  try {
    const [copy] = await copyAside(files, 'torn', [{ path, from: tip.position, to: tornEnd }])
    // The next batch in this file makes the zeros durable together with itself.
    const bytes = tornEnd - tip.position
    await file.write(Buffer.alloc(bytes), tip.position)
    report(tornReport(path, tip.position, bytes, copy!))
  } finally {
    await file.close()
  }
}

async function scanned(files: PartitionFiles, segment: Segment, index: BatchIndex) {
  const file = await files.disk.open(segment.path, 'read')
  try {
    return await scanSegment(file, segment, files.lineage, index)
  } finally {
    await file.close()
  }
}

function tornReport(path: string, byte: number, bytes: number, copy: string): Report {
  return {
    level: 'warning',
    code: 'log-torn-tail',
    message:
      `An unfinished write at the end of ${path}, byte ${byte}, was cut off (${bytes} bytes; copied to ${copy}). ` +
      'It was never acknowledged: a crash had interrupted it. Nothing needs to be done.',
  }
}
