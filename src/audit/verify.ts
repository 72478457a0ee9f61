import { HenceError } from '../failure.ts'
import { BatchIndex } from '../log/file-log/batch-index.ts'
import { damageLocation } from '../log/file-log/damage.ts'
import { type Disk, realDisk } from '../log/file-log/disk.ts'
import type { Segment } from '../log/file-log/segment.ts'
import { scanSegment } from '../log/file-log/segment-scan.ts'
import { type LogSnapshot, type PartitionSnapshot, readSnapshot } from '../log/file-log/snapshot.ts'
import { decodeRecord } from '../log/record.ts'
import type { HeadCheck } from './head-check.ts'
import { Frontier } from './tree.ts'

/** A difference from what was written or signed. */
export interface Flaw {
  readonly code: string
  readonly message: string
  readonly file?: string
  readonly byte?: number
  readonly partition?: number
  /** Of derived state. */
  readonly generation?: number
  /** The records in question. */
  readonly from?: number
  readonly to?: number
}

/**
 * Verifies every partition of a snapshot, see `verifyPartition`, and compares it with signed heads.
 * @returns also whether no partition by itself has a flaw
 */
export async function verifyLog(
  { partitions }: LogSnapshot,
  options: Parameters<typeof verifyPartition>[1],
): Promise<PartitionVerified & { readonly isWhole: boolean }> {
  const flaws: Flaw[] = []
  let [records, bytes] = [0, 0]
  for (const each of partitions) {
    const verified = await verifyPartition(each, options)
    records += verified.records
    bytes += verified.bytes
    flaws.push(...verified.flaws)
  }
  const isWhole = flaws.length === 0
  for (const flaw of options.heads?.flaws ?? []) flaws.push({ code: 'head-mismatch', ...flaw })
  return { records, bytes, flaws, isWhole }
}

interface PartitionVerified {
  readonly records: number
  /** Of the records alone, without headers. */
  readonly bytes: number
  readonly flaws: readonly Flaw[]
}

/**
 * Reads every byte of a partition in a snapshot and checks it: checksums, the hash chain, the form of each
 * record, the signed heads, and that nothing follows the last batch. Changes nothing.
 * @param inUse a process has the log open, so an unfinished write at its end is no flaw
 * @param options.progress called with the number of records read since the last call
 */
export async function verifyPartition(
  snapshot: PartitionSnapshot,
  options: {
    readonly heads: HeadCheck | undefined
    readonly inUse: boolean
    readonly progress?: (records: number) => void
    readonly disk?: Disk
  },
): Promise<PartitionVerified> {
  const { heads, inUse, progress = () => {}, disk = realDisk } = options
  const { partition } = snapshot.files.lineage
  const flaws: Flaw[] = []
  const frontier = new Frontier()
  let bytes = 0
  try {
    for await (const { records } of readSnapshot(snapshot)) {
      let read = 0
      for (const record of records) {
        checkForm(partition, frontier.size, record, flaws)
        frontier.append(record)
        if (heads?.asks(partition, frontier.size)) {
          heads.compare(partition, frontier.size, frontier.root().toString('hex'))
        }
        read += record.length
      }
      bytes += read
      progress(records.length)
    }
  } catch (error) {
    flaws.push(flawOf(error))
    return { records: frontier.size, bytes, flaws }
  }
  heads?.end(partition, frontier.size)
  const { segments, tip, tornEnd } = snapshot.findings!
  for (const segment of segments.slice(0, -1)) flaws.push(...(await behindBatches(disk, snapshot, segment)))
  if (tornEnd > tip.position && !inUse) {
    const file = segments.at(-1)!.path
    flaws.push({
      code: 'log-torn-tail',
      message:
        `The bytes at the end of ${file}, from byte ${tip.position} on, are no whole batch. After a crash ` +
        'they are an unfinished write that was never acknowledged, and the next start cuts them off; ' +
        'after an orderly stop the file was changed.',
      file,
      byte: tip.position,
      partition,
    })
  }
  return { records: frontier.size, bytes, flaws }
}

export function flawOf(error: unknown): Flaw {
  if (!(error instanceof HenceError)) throw error
  return { code: error.code, message: error.message, ...damageLocation(error) }
}

function checkForm(partition: number, offset: number, record: Buffer, flaws: Flaw[]): void {
  try {
    decodeRecord(record)
  } catch (error) {
    flaws.push({ ...flawOf(error), partition, from: offset, to: offset + 1 })
  }
}

/** Checks that zeros follow the last batch of an earlier segment, which nothing else reads. */
async function behindBatches(disk: Disk, { files }: PartitionSnapshot, segment: Segment): Promise<Flaw[]> {
  const file = await disk.open(segment.path, 'read')
  try {
    const { tip, junkEnd } = await scanSegment(file, segment, files, new BatchIndex(segment.baseOffset))
    if (tip === undefined || junkEnd === tip.position) return []
    const message =
      `After the last batch of ${segment.path}, at byte ${tip.position} or later, there are ` +
      'bytes that Hence did not write.'
    return [{ code: 'log-damaged', message, file: segment.path, byte: tip.position }]
  } catch (error) {
    return [flawOf(error)]
  } finally {
    await file.close()
  }
}
