import { join } from 'node:path'
import type { Batch } from '../log.ts'
import { type BatchHeader, headerBytes, isContinued, payloadIsWhole, readHeader } from './batch.ts'
import { BatchIndex } from './batch-index.ts'
import { readNote } from './carrier-note.ts'
import { damaged, damageLocation } from './damage.ts'
import { type Disk, realDisk } from './disk.ts'
import { type Findings, inspect } from './inspection.ts'
import { readMeta } from './meta.ts'
import { listSegments, type PartitionFiles, partitionFilesOf, unfinishedFiles } from './partition-files.ts'
import { readPartition, segmentOf } from './partition-read.ts'
import { segmentHeaderBytes } from './segment.ts'
import { Window } from './window.ts'

/** A log as it is at one moment, found by reading alone: from outside, also while a process writes it. */
export interface LogSnapshot {
  readonly id: string
  readonly partitions: readonly PartitionSnapshot[]
}

export interface PartitionSnapshot {
  readonly files: PartitionFiles
  /** Undefined if the partition is damaged where it ends. */
  readonly findings: Findings | undefined
  /** The damage for which a start would refuse the partition. */
  readonly damage: Error | undefined
}

/**
 * Takes a snapshot of the log in a data directory, and changes nothing; undefined if there is no log.
 * @throws HenceError `log-damaged`, `log-format-unknown` (operator) for the file that describes the log,
 *   `log-read-failed` (retry)
 */
export async function snapshotLog(
  directory: string,
  disk: Disk = realDisk,
): Promise<LogSnapshot | undefined> {
  const folder = join(directory, 'log')
  const meta = await readMeta(disk, folder)
  if (meta === undefined) {
    await unfinishedFiles(disk, folder)
    return undefined
  }
  const partitions: PartitionSnapshot[] = []
  const isCopy = (await readNote(disk, folder)) !== undefined
  for (const files of partitionFilesOf(disk, folder, meta, isCopy))
    partitions.push(await snapshotPartition(files))
  return { id: meta.logId, partitions }
}

/**
 * A batch that a process is writing looks torn at first; once the next batch follows it, it looks damaged.
 * Real damage is found again in the same place, so the partition is inspected until two results agree.
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
 * Reads a partition from an offset up to where the snapshot ends, and checks every byte; from 0, every byte
 * of the partition.
 * @throws HenceError `log-damaged` (operator), `log-read-failed` (retry); after the batches before the damage
 */
export async function* readSnapshot(
  { files, findings, damage }: PartitionSnapshot,
  from = 0,
): AsyncGenerator<Batch> {
  const segments = findings?.segments ?? (await listSegments(files))
  let current = 0
  try {
    yield* readPartition(files, from, {
      first: segmentOf(segments, from),
      segment(number) {
        current = number
        return segments[number]
      },
      index: ({ baseOffset }) => new BatchIndex(baseOffset),
      limit: ({ number, size }) =>
        findings && number === segments.length - 1 ? findings.tip.position : size,
    })
  } catch (error) {
    // Where the end is not known, the reading runs into it; the snapshot already says what is wrong there.
    throw current >= segments.length - 1 && damage ? damage : error
  }
  if (damage) throw damage
}

interface RawBatch {
  readonly header: BatchHeader
  readonly bytes: Buffer
}

/**
 * Yields all batches of a partition, seals too, up to where the snapshot ends. The caller checks that they
 * follow each other.
 */
export async function* rawBatches({ files, findings, damage }: PartitionSnapshot): AsyncGenerator<RawBatch> {
  if (findings === undefined) throw damage
  const { segments, tip } = findings
  for (const { path, number, size } of segments) {
    const limit = number === segments.length - 1 ? tip.position : size
    const file = await files.disk.open(path, 'read')
    try {
      const window = new Window(file, path)
      for (let position = segmentHeaderBytes; position < limit; ) {
        if (window.indexOf(position, headerBytes) < 0) await window.load(position, headerBytes, limit)
        const header = readHeader(window.bytes, window.indexOf(position, 0), files.lineage)
        if (header === undefined) throw damaged(path, position, 'there is no batch header')
        const length = headerBytes + header.payloadBytes
        if (window.indexOf(position, length) < 0) await window.load(position, length, limit)
        const at = window.indexOf(position, length)
        if (at < 0 || !payloadIsWhole(window.bytes, at, header))
          throw damaged(path, position, 'the payload of the batch is not what was written')
        yield { header, bytes: Buffer.from(window.bytes.subarray(at, at + length)) }
        if (isContinued(header)) break
        position += length
      }
    } finally {
      await file.close()
    }
  }
}
