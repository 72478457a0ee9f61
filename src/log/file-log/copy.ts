import { basename, join } from 'node:path'
import { flagContinued, headerBytes, readHeader } from './batch.ts'
import { damaged } from './damage.ts'
import { type DiskFile, makeDirectories, realDisk } from './disk.ts'
import { placesOf } from './file-log.ts'
import type { LogLook, PartitionLook } from './look.ts'
import { writeMeta } from './meta.ts'
import type { Place } from './recovery.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { Window } from './window.ts'

const pieceBytes = 1024 * 1024

/**
 * Copies a log that was looked at, as it was then, into a directory without one. What stands in a log never changes,
 * so this may go on beside the process that writes it.
 * @param until batches with a later log time are left out, of all partitions: what follows from a record never has an
 *   earlier time than it, so nothing is there without its cause
 * @throws HenceError `log-damaged` (operator) where the end is not known; `log-read-failed` (retry)
 */
export async function copyLog(
  look: LogLook,
  directory: string,
  until = Number.POSITIVE_INFINITY,
): Promise<void> {
  const folder = join(directory, 'log')
  const meta = { logId: look.id, partitions: look.partitions.length }
  const disk = realDisk
  await makeDirectories(disk, folder, 'log directory')
  for (const [partition, place] of placesOf(disk, folder, meta).entries()) {
    await makeDirectories(disk, place.directory, 'partition directory')
    await copyPartition(look.partitions[partition]!, place, until)
    await disk.syncDirectory(place.directory, 'copied names')
  }
  // It comes last, as when a log is made: without it the copy is none.
  await writeMeta(disk, folder, meta)
  await disk.syncDirectory(folder, 'meta name')
}

async function copyPartition(
  { place, findings, damage }: PartitionLook,
  to: Place,
  until: number,
): Promise<void> {
  if (findings === undefined) throw damage
  const { segments, tip } = findings
  for (const segment of segments) {
    const isLast = segment.number === segments.length - 1
    const limit = isLast ? tip.position : segment.size
    const file = await place.disk.open(segment.path, 'read')
    try {
      const end = await endUntil(file, place, segment, limit, until)
      await copySegment(file, join(to.directory, basename(segment.path)), segment.size, end.position)
      // A segment is there as soon as the one before it says that the partition goes on in it, though it may be empty.
      if (!end.continued) return
    } finally {
      await file.close()
    }
  }
}

/** Where the batches of a segment end whose log time is not later. */
async function endUntil(
  file: DiskFile,
  { lineage }: Place,
  { path }: Segment,
  limit: number,
  until: number,
): Promise<{ readonly position: number; readonly continued: boolean }> {
  const window = new Window(file, path)
  let position = segmentHeaderBytes
  while (position < limit) {
    if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, limit)
    const header = readHeader(window.bytes, window.indexOf(position, 0), lineage)
    if (header === undefined) throw damaged(path, position, 'there is no batch header')
    if (header.time > until) break
    position += headerBytes + header.payloadBytes
    if ((header.flags & flagContinued) !== 0) return { position, continued: true }
  }
  return { position, continued: false }
}

/** Copies the beginning of a file into a new one of the same size. */
async function copySegment(from: DiskFile, path: string, size: number, bytes: number): Promise<void> {
  const file = await realDisk.open(path, 'create')
  try {
    await file.truncate(size)
    const piece = Buffer.allocUnsafe(pieceBytes)
    for (let at = 0; at < bytes; at += pieceBytes) {
      const part = piece.subarray(0, Math.min(pieceBytes, bytes - at))
      await file.write(part.subarray(0, await from.read(part, at)), at)
    }
    await file.sync('copied segment')
  } finally {
    await file.close()
  }
}
