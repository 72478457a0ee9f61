import { crc32 } from 'node:zlib'
import type { Lineage } from './batch.ts'
import { damaged } from './damage.ts'
import { type Disk, type DiskFile, withFile } from './disk.ts'

/**
 * A segment: a file of a fixed size that begins with this header; batches follow without gaps, then zeros.
 * The size is set when the file is made, so that a shortened file is noticed and a commit changes no file
 * size. All integers are little-endian.
 *
 *   0        1        2        3        4        5        6        7        8
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | magic 'HNCS' (53434e48h)          | version = 2     | reserved, zero  |   0
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | log id (16 bytes)                                                     |   8
 *   |                                                                       |  16
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | partition                         | size of the file, in bytes        |  24
 *   +--------+--------+--------+--------+--------+--------+--------+--------+
 *   | checksum of the 32 bytes above    | batches …                            32
 *   +--------+--------+--------+--------+--------------------------------
 *
 * Its name is `NNNNNNNN-OOOOOOOOOOOOOOOO.segment` in decimal digits: its number in the partition, counted
 * from 0 without gaps so that a missing file is noticed, and the offset of the first record that it may hold.
 */
export const segmentHeaderBytes = 36

const magic = 0x53434e48
const version = 2

/** The name of the next segment while it has no base offset yet. */
export const spareName = 'spare'

/** A segment file: its number in the partition, the offset that it begins with, and its size in bytes. */
export interface Segment {
  readonly number: number
  readonly baseOffset: number
  readonly path: string
  readonly size: number
}

export function segmentName(number: number, baseOffset: number): string {
  return `${String(number).padStart(8, '0')}-${String(baseOffset).padStart(16, '0')}.segment`
}

/** Returns the number and base offset in a segment's name; undefined for other files. */
export function parseSegmentName(name: string): { number: number; baseOffset: number } | undefined {
  const parts = /^(\d{8})-(\d{16})\.segment$/.exec(name)
  return parts === null ? undefined : { number: Number(parts[1]), baseOffset: Number(parts[2]) }
}

/** Makes a segment; its size and header are durable when this resolves, its name is not. */
export async function makeSegment(disk: Disk, path: string, lineage: Lineage, size: number): Promise<void> {
  const header = Buffer.alloc(segmentHeaderBytes)
  header.writeUInt32LE(magic, 0)
  header.writeUInt16LE(version, 4)
  header.set(lineage.logId, 8)
  header.writeUInt32LE(lineage.partition, 24)
  header.writeUInt32LE(size, 28)
  header.writeUInt32LE(crc32(header.subarray(0, 32)), 32)
  await withFile(disk, path, 'create', async (file) => {
    await file.truncate(size)
    await file.write(header, 0)
    await file.sync('segment')
  })
}

/** Checks the header and the size of a segment, and returns its size in bytes. */
export async function checkSegment(file: DiskFile, path: string, lineage: Lineage): Promise<number> {
  const size = await file.size()
  const header = Buffer.alloc(segmentHeaderBytes)
  const bytes = await file.read(header, 0)
  if (bytes < segmentHeaderBytes) throw damaged(path, bytes, 'the file ends within its header')
  const valid =
    header.readUInt32LE(0) === magic &&
    header.readUInt16LE(4) === version &&
    header.readUInt32LE(32) === crc32(header.subarray(0, 32))
  if (!valid) throw damaged(path, 0, 'the segment header is not valid')
  const ours =
    header.compare(lineage.logId, 0, 16, 8, 24) === 0 && header.readUInt32LE(24) === lineage.partition
  if (!ours) throw damaged(path, 8, 'the segment belongs to another log or partition')
  const sizeWritten = header.readUInt32LE(28)
  if (size !== sizeWritten) {
    throw damaged(
      path,
      Math.min(size, sizeWritten),
      `the file has ${size} bytes instead of the ${sizeWritten} it was made with`,
    )
  }
  return size
}
