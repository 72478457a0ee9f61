import { crc32 } from 'node:zlib'
import type { Log } from './log.ts'

/** Returns the partition of a partition key: the CRC-32 of its UTF-8 bytes modulo the number of partitions. */
export function partitionOf(key: string, partitions: number): number {
  return partitions === 1 ? 0 : crc32(key) % partitions
}

export function recordsBefore(positions: readonly number[]): number {
  return positions.reduce((total, each) => total + each, 0)
}

export function everyPartition({ partitions }: Log): number[] {
  return Array.from({ length: partitions }, (_, partition) => partition)
}

export async function isEmpty(log: Log): Promise<boolean> {
  const ends = await Promise.all(everyPartition(log).map((partition) => log.end(partition)))
  return ends.every((end) => end === 0)
}

/** The offset of each partition in a position, like `3.17`; undefined if that is not before these ends. */
export function offsetsIn(position: string, ends: readonly number[]): number[] | undefined {
  const at = /^\d{1,16}(\.\d{1,16})*$/.test(position) ? position.split('.').map(Number) : []
  return at.length === ends.length && at.every((offset, i) => offset <= ends[i]!) ? at : undefined
}
