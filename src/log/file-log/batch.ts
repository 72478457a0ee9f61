import { crc32 } from 'node:zlib'
import { sha256 } from '../../sha256.ts'
import { readU64, writeU64 } from '../record.ts'

/**
 * A batch: the bytes that one group commit writes; `active-segment.ts` writes and syncs them. All integers
 * are little-endian; hashes are SHA-256; checksums are CRC-32 as in zlib.
 *
 *   0        1        2        3        4        5        6        7        8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | magic 'HNCB' (42434e48h)          | version = 2     | flags           |   0
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | log id (16 bytes)                                                     |   8
 *   |                                                                       |  16
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | partition                         | epoch                             |  24
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | base offset: the offset of the first record                           |  32
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | durable offset: the end of the partition known durable when written   |  40
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | log time, ms since 1970                                               |  48
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | record count                      | payload bytes                     |  56
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | hash of the whole batch before this one in the partition (32 bytes);  |  64
 *   | zero in the partition's first                                         |  72
 *   |                                                                       |  80
 *   |                                                                       |  88
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | decided offset: all records below it were derived when written        |  96
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | nonce of the epoch: 8 random bytes for each opening                   | 104
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | reserved, zero                                                        | 112
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | payload checksum                  | checksum of the 124 bytes above   | 120
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | payload: for each record its length (u32) and its bytes              …  128
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *
 *     flags bit 0: a seal. No records; it vouches for the batch before it.
 *     flags bit 1: continued. On a seal, the last batch of its segment: the partition continues in the next segment.
 */
export const headerBytes = 128

const magic = 0x42434e48
const version = 2
const nonceBytes = 8
export const flagSeal = 1
export const flagContinued = 2

/** The previous hash in the first batch of a partition. */
export const noHash: Buffer = Buffer.alloc(32)

/** The fields that all batches of a partition share. */
export interface Lineage {
  /** The log id, 16 bytes. */
  readonly logId: Buffer
  readonly partition: number
}

export interface BatchHeader {
  readonly flags: number
  /** Counts the openings of the partition: the run of the writer that wrote this batch. */
  readonly epoch: number
  /** Random, 8 bytes: two runs of a writer never take the batches of the other for their own. */
  readonly nonce: Buffer
  readonly baseOffset: number
  readonly durableOffset: number
  /** All records below this offset had been derived, and their outcomes may have been sent, when it was written. */
  readonly decided: number
  readonly time: number
  readonly count: number
  readonly payloadBytes: number
}

export function batchBytes(count: number, recordBytes: number): number {
  return headerBytes + 4 * count + recordBytes
}

export const isContinued = ({ flags }: Pick<BatchHeader, 'flags'>): boolean => (flags & flagContinued) !== 0

/** Writes one record of a payload; returns the index after it. */
export function writeRecord(into: Buffer, at: number, record: Uint8Array): number {
  const length = record.length
  into[at] = length
  into[at + 1] = length >>> 8
  into[at + 2] = length >>> 16
  into[at + 3] = length >>> 24
  into.set(record, at + 4)
  return at + 4 + length
}

/** Writes the header of a batch whose payload is already in place. */
export function writeHeader(
  batch: Buffer,
  lineage: Lineage,
  header: BatchHeader,
  previousHash: Uint8Array,
): void {
  batch.writeUInt32LE(magic, 0)
  batch.writeUInt16LE(version, 4)
  batch.writeUInt16LE(header.flags, 6)
  batch.set(lineage.logId, 8)
  batch.writeUInt32LE(lineage.partition, 24)
  batch.writeUInt32LE(header.epoch, 28)
  writeU64(batch, header.baseOffset, 32)
  writeU64(batch, header.durableOffset, 40)
  writeU64(batch, header.time, 48)
  batch.writeUInt32LE(header.count, 56)
  batch.writeUInt32LE(header.payloadBytes, 60)
  batch.set(previousHash, 64)
  writeU64(batch, header.decided, 96)
  batch.set(header.nonce, 104)
  writeU64(batch, 0, 112)
  batch.writeUInt32LE(crc32(batch.subarray(headerBytes, headerBytes + header.payloadBytes)), 120)
  batch.writeUInt32LE(crc32(batch.subarray(0, 124)), 124)
}

/** Reads the header at an index; undefined if there is no valid header of this partition. */
export function readHeader(bytes: Buffer, at: number, lineage: Lineage): BatchHeader | undefined {
  if (at + headerBytes > bytes.length || bytes.readUInt32LE(at) !== magic) return undefined
  if (crc32(bytes.subarray(at, at + 124)) !== bytes.readUInt32LE(at + 124)) return undefined
  if (bytes.readUInt16LE(at + 4) !== version || bytes.readUInt16LE(at + 6) > flagSeal + flagContinued) {
    return undefined
  }
  if (bytes.readUInt32LE(at + 112) !== 0 || bytes.readUInt32LE(at + 116) !== 0) return undefined
  if (bytes.compare(lineage.logId, 0, 16, at + 8, at + 24) !== 0) return undefined
  if (bytes.readUInt32LE(at + 24) !== lineage.partition) return undefined
  return {
    flags: bytes.readUInt16LE(at + 6),
    epoch: bytes.readUInt32LE(at + 28),
    baseOffset: readU64(bytes, at + 32),
    durableOffset: readU64(bytes, at + 40),
    decided: readU64(bytes, at + 96),
    nonce: Buffer.from(bytes.subarray(at + 104, at + 104 + nonceBytes)),
    time: readU64(bytes, at + 48),
    count: bytes.readUInt32LE(at + 56),
    payloadBytes: bytes.readUInt32LE(at + 60),
  }
}

/** Returns the first index, from one on, of a valid header of this partition; or -1. */
export function findHeader(bytes: Buffer, from: number, lineage: Lineage): number {
  let at = bytes.indexOf(magicBytes, from)
  while (at >= 0 && readHeader(bytes, at, lineage) === undefined) at = bytes.indexOf(magicBytes, at + 1)
  return at
}

const magicBytes = Buffer.from('HNCB', 'latin1')

/** Whether the payload after the header at this index is the one that was written. */
export function payloadIsWhole(bytes: Buffer, at: number, header: BatchHeader): boolean {
  const start = at + headerBytes
  return crc32(bytes.subarray(start, start + header.payloadBytes)) === bytes.readUInt32LE(at + 120)
}

/** Whether the batch at this index was written right after the one with this hash. */
export function follows(bytes: Buffer, at: number, previousHash: Uint8Array): boolean {
  return bytes.compare(previousHash, 0, 32, at + 64, at + 96) === 0
}

export const previousHashOf = (bytes: Buffer, at: number): Buffer => bytes.subarray(at + 64, at + 96)

export const hashOf = (batch: Buffer): Buffer => sha256(batch)

/** The records of a batch: their first bytes, which say their kinds, and views, made when they are asked for. */
interface BatchRecords {
  readonly kinds: Uint8Array
  readonly views: () => Buffer[]
}

/** Returns the records of the batch at this index; undefined if their lengths do not add up. */
export function recordsOf(bytes: Buffer, at: number, header: BatchHeader): BatchRecords | undefined {
  const { count, payloadBytes } = header
  const kinds = new Uint8Array(count)
  const starts = new Uint32Array(count)
  let start = at + headerBytes
  const end = start + payloadBytes
  for (let index = 0; index < count; index++) {
    if (start + 4 > end) return undefined
    const length = bytes.readUInt32LE(start)
    start += 4
    if (start + length > end) return undefined
    starts[index] = start
    if (length > 0) kinds[index] = bytes[start]!
    start += length
  }
  if (start !== end) return undefined
  let made: Buffer[] | undefined
  const views = () => {
    if (made !== undefined) return made
    made = new Array<Buffer>(count)
    for (let index = 0; index < count; index++) {
      const begin = starts[index]!
      made[index] = bytes.subarray(begin, begin + bytes.readUInt32LE(begin - 4))
    }
    return made
  }
  return { kinds, views }
}
