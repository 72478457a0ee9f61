import { rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import {
  type BatchHeader,
  batchBytes,
  headerBytes,
  isContinued,
  type Lineage,
  payloadIsWhole,
  previousHashOf,
  readHeader,
  recordsOf,
  writeHeader,
} from './batch.ts'
import { damaged } from './damage.ts'
import { type DiskFile, makeDirectories, realDisk, withFile } from './disk.ts'
import { writeMeta } from './meta.ts'
import { type PartitionFiles, partitionFilesOf } from './partition-files.ts'
import { type Segment, segmentHeaderBytes } from './segment.ts'
import { readBytes } from './segment-scan.ts'
import type { LogSnapshot, PartitionSnapshot } from './snapshot.ts'
import { Window } from './window.ts'

const pieceBytes = 1024 * 1024

/** Where a copy of a partition ends: before a batch with a later time, or before an offset. */
interface End {
  readonly until: number
  readonly offset: number
  readonly copied: (bytes: number) => void
}

/**
 * Copies a log, as a snapshot found it, into a directory without one, or with a part of its copy. Records
 * never change, so this may run beside the process that writes the log.
 * @param until leaves out batches with a later log time; no record has an earlier one than its cause
 * @param ends by partition: leaves out records from this offset on; no event may lack its cause then
 * @param copied called with the number of bytes that were copied since the last call; what it throws ends the
 *   copying
 * @throws HenceError `log-damaged` (operator) where the end is not known; `log-read-failed` (retry)
 */
export async function copyLog(
  snapshot: LogSnapshot,
  directory: string,
  {
    until = Number.POSITIVE_INFINITY,
    ends,
    copied = () => {},
  }: { readonly until?: number; readonly ends?: readonly number[]; readonly copied?: End['copied'] } = {},
): Promise<void> {
  const folder = join(directory, 'log')
  const meta = { logId: snapshot.id, partitions: snapshot.partitions.length }
  const disk = realDisk
  await makeDirectories(disk, folder, 'log directory')
  for (const [partition, files] of partitionFilesOf(disk, folder, meta).entries()) {
    await makeDirectories(disk, files.directory, 'partition directory')
    const end = { until, offset: ends?.[partition] ?? Number.POSITIVE_INFINITY, copied }
    await copyPartition(snapshot.partitions[partition]!, files, end)
    await disk.syncDirectory(files.directory, 'copied names')
  }
  // Last, as when a log is made: without it the copy is no log.
  await writeMeta(disk, folder, meta)
  await disk.syncDirectory(folder, 'meta name')
}

async function copyPartition(
  { files, findings, damage }: PartitionSnapshot,
  to: PartitionFiles,
  end: End,
): Promise<void> {
  if (findings === undefined) throw damage
  const { segments, tip } = findings
  for (const segment of segments) {
    const isLast = segment.number === segments.length - 1
    const limit = isLast ? tip.position : segment.size
    // A segment exists once the one before it says that the partition continues, even if it is empty.
    const continues = await withFile(files.disk, segment.path, 'read', async (file) => {
      const kept = await keptOf(file, files, segment, limit, end)
      await copySegment(file, join(to.directory, basename(segment.path)), segment.size, kept, end.copied)
      return kept.continued
    })
    if (!continues) return
  }
}

interface Kept {
  /** The position after its last whole batch. */
  readonly position: number
  /** The first records of the next batch, as a batch. */
  readonly shortened?: Buffer
  readonly continued: boolean
}

async function keptOf(
  file: DiskFile,
  { lineage }: PartitionFiles,
  { path }: Segment,
  limit: number,
  end: End,
): Promise<Kept> {
  const window = new Window(file, path)
  let position = segmentHeaderBytes
  while (position < limit) {
    if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, limit)
    const header = readHeader(window.bytes, window.indexOf(position, 0), lineage)
    if (header === undefined) throw damaged(path, position, 'there is no batch header')
    if (header.time > end.until) break
    const count = end.offset - header.baseOffset
    if (count < header.count) {
      if (count === 0) break
      const batch = await readBytes(file, position, position + headerBytes + header.payloadBytes)
      const shortened = shortenedTo(count, batch, header, lineage)
      if (shortened === undefined)
        throw damaged(path, position, 'the payload of the batch is not what was written')
      return { position, shortened, continued: false }
    }
    position += headerBytes + header.payloadBytes
    if (isContinued(header)) return { position, continued: true }
  }
  return { position, continued: false }
}

/** Returns the batch that its first records would have made; undefined if its payload is damaged. */
function shortenedTo(
  count: number,
  batch: Buffer,
  header: BatchHeader,
  lineage: Lineage,
): Buffer | undefined {
  if (!payloadIsWhole(batch, 0, header)) return undefined
  const records = recordsOf(batch, 0, header)?.views().slice(0, count)
  if (records === undefined) return undefined
  const bytes = batchBytes(
    count,
    records.reduce((sum, { length }) => sum + length, 0),
  )
  const shortened = Buffer.from(batch.subarray(0, bytes))
  writeHeader(
    shortened,
    lineage,
    { ...header, count, payloadBytes: bytes - headerBytes },
    previousHashOf(batch, 0),
  )
  return shortened
}

async function copySegment(
  from: DiskFile,
  path: string,
  size: number,
  { position, shortened }: Kept,
  copied: (bytes: number) => void,
): Promise<void> {
  // One that an earlier try has copied stays; where more was written since, there are zeros.
  if (shortened === undefined && (await isCopied(from, path, size, position))) return copied(position)
  const unfinished = `${path}.unfinished`
  await rm(unfinished, { force: true })
  await withFile(realDisk, unfinished, 'create', async (file) => {
    await file.truncate(size)
    const piece = Buffer.allocUnsafe(pieceBytes)
    for (let at = 0; at < position; at += pieceBytes) {
      const part = piece.subarray(0, Math.min(pieceBytes, position - at))
      await file.write(part.subarray(0, await from.read(part, at)), at)
      copied(part.length)
    }
    if (shortened !== undefined) await file.write(shortened, position)
    await file.sync('copied segment')
  })
  await realDisk.rename(unfinished, path)
}

/** Whether a file ends like the kept part of another one; all of it is verified later. */
async function isCopied(from: DiskFile, path: string, size: number, position: number): Promise<boolean> {
  if ((await realDisk.identify(path))?.size !== size) return false
  return withFile(realDisk, path, 'read', async (file) => {
    const at = Math.max(0, position - 4_096)
    return (await readBytes(file, at, position)).equals(await readBytes(from, at, position))
  })
}
