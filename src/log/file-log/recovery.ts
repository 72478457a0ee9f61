import { basename, dirname, join } from 'node:path'
import type { Report, Reporter } from '../../report.ts'
import type { Lineage } from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import { damaged } from './damage.ts'
import { type Disk, makeDirectories } from './disk.ts'
import {
  checkSegment,
  makeSegment,
  parseSegmentName,
  type Segment,
  segmentName,
  spareName,
} from './segment.ts'
import { readBytes, scanSegment } from './segment-scan.ts'
import { continuedIn, emptyTip, type Tip } from './tip.ts'

/** The parts of a partition that its recovery, its writing and its reading share. */
export interface PartitionFiles {
  readonly disk: Disk
  readonly directory: string
  readonly lineage: Lineage
}

/** What the files of a partition hold; found by reading alone. */
export interface Findings {
  readonly segments: readonly Segment[]
  readonly index: BatchIndex
  readonly tip: Tip
  /** Where the torn end of an unfinished write stops; equal to the tip's position when there is none. */
  readonly tornEnd: number
  /** Where the last batch stands: in the last segment, or in the one before it when that is still empty. */
  readonly lastBatch: { readonly path: string; readonly from: number; readonly to: number } | undefined
  /** The next segment, if a crash came after it was made and before the partition went on in it. */
  readonly unused: Segment | undefined
}

/**
 * Looks at a partition and changes nothing. Only the last segment is read whole (the one before it too, when
 * the last one is still empty): those before are checked by whoever reads them.
 * @throws HenceError `log-damaged` (operator), `log-read-failed` (retry)
 */
export async function inspect(files: PartitionFiles): Promise<Findings> {
  const findings = await inspectLast(files, await listSegments(files))
  // A segment is there, durably, before the one before it says that the partition goes on in it.
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
 * Makes good what a crash has left: cuts off a torn end, and makes durable all that was found. What stands
 * in a file need not be on the disk yet: it may be there only because the machine kept running.
 */
export async function mend(files: PartitionFiles, findings: Findings, report: Reporter): Promise<void> {
  const { disk, directory } = files
  const { tip, tornEnd, lastBatch } = findings
  const { path } = findings.segments.at(-1)!
  if (findings.unused !== undefined) await disk.remove(findings.unused.path)
  await disk.syncDirectory(directory, 'recovered names')

  if (lastBatch !== undefined) {
    const file = await disk.open(lastBatch.path, 'write')
    try {
      // Written again, because after a failed fsync the system may think a page clean that it never wrote.
      await file.write(await readBytes(file, lastBatch.from, lastBatch.to), lastBatch.from)
      await file.sync('recovered batch')
    } finally {
      await file.close()
    }
  }
  if (tornEnd === tip.position) return
  const file = await disk.open(path, 'write')
  try {
    const torn = await readBytes(file, tip.position, tornEnd)
    const copy = await copyAside(files, path, torn)
    // The next batch in this file makes the zeros durable with itself.
    await file.write(Buffer.alloc(torn.length), tip.position)
    report(tornReport(path, tip.position, torn.length, copy))
  } finally {
    await file.close()
  }
}

/**
 * Makes the next segment, under a name that is not part of the partition; resolves to its size. One that a
 * crash or a failed write has left is made anew.
 */
export async function makeSpare(files: PartitionFiles, bytes: number): Promise<number> {
  const { disk, directory, lineage } = files
  const path = join(directory, spareName)
  if ((await disk.list(directory))!.includes(spareName)) await disk.remove(path)
  await makeSegment(disk, path, lineage, bytes)
  return bytes
}

/** Turns the spare into the segment that follows. */
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

async function scanned(files: PartitionFiles, segment: Segment, index: BatchIndex) {
  const file = await files.disk.open(segment.path, 'read')
  try {
    return await scanSegment(file, segment, files.lineage, index)
  } finally {
    await file.close()
  }
}

export async function listSegments({ disk, directory, lineage }: PartitionFiles): Promise<Segment[]> {
  const names = (await disk.list(directory)) ?? []
  const found = names
    .map((name) => ({ name, parsed: parseSegmentName(name) }))
    .filter(({ parsed }) => parsed !== undefined)
    .sort((a, b) => a.parsed!.number - b.parsed!.number)
  const segments: Segment[] = []
  for (const { name, parsed } of found) {
    const { number, baseOffset } = parsed!
    if (number !== segments.length) throw missing(directory, segments.length)
    const path = join(directory, name)
    const file = await disk.open(path, 'read')
    try {
      segments.push({ number, baseOffset, path, size: await checkSegment(file, path, lineage) })
    } finally {
      await file.close()
    }
  }
  if (segments.length === 0) throw missing(directory, 0)
  return segments
}

function missing(directory: string, number: number) {
  return damaged(directory, 0, `segment ${number} is missing`)
}

/** Keeps the bytes of a torn end for whoever wants to look at them. Never overwrites an earlier copy. */
async function copyAside({ disk, directory }: PartitionFiles, path: string, torn: Buffer): Promise<string> {
  const folder = join(dirname(directory), 'torn')
  await makeDirectories(disk, folder, 'torn copy')
  const taken = (await disk.list(folder))!.map((name) => Number.parseInt(name, 10) || 0)
  const number = String(Math.max(0, ...taken) + 1).padStart(4, '0')
  const copy = join(folder, `${number}-${basename(directory)}-${basename(path)}`)
  const file = await disk.open(copy, 'create')
  try {
    await file.write(torn, 0)
    await file.sync('torn copy')
  } finally {
    await file.close()
  }
  await disk.syncDirectory(folder, 'torn copy')
  return copy
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
