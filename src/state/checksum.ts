import { crc32 } from 'node:zlib'

/**
 * The checksum of a stored value: 4 bytes behind its text, little-endian. It is the CRC-32 of the text, XORed
 * with a hash of the collection and the key, so damage to any of them shows.
 */
export const checksumLength = 4

/** FNV-1a over the characters of a latin1 text: every change of one character changes it. */
export function hashOf(text: string, begin: number): number {
  let hash = begin
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}

/** The hash of a collection, with which those of its keys begin. */
export const collectionHash = (name: string): number => hashOf(name, 0x811c9dc5)

/** Whether bytes end with the checksum of the text in them, from an offset on, for a hash of its names. */
export function isIntact(hash: number, bytes: Buffer, from: number, end: number): boolean {
  return end - from >= checksumLength && hashIn(bytes, from, end) === hash
}

/** The hash of the names under which a text with a checksum was written. */
export function hashIn(bytes: Buffer, from: number, end: number): number {
  const at = end - checksumLength
  return crcOf(bytes, from, at) ^ bytes.readInt32LE(at)
}

/** The CRC-32 of some bytes, as a signed integer. */
export function crcOf(bytes: Buffer, from: number, to: number): number {
  // For fewer bytes a call into Node costs more than the sum.
  if (to - from > 256) return crc32(bytes.subarray(from, to)) | 0
  let sum = -1
  let at = from
  for (; at + 4 <= to; at += 4) {
    sum ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    sum =
      tables[768 + (sum & 255)]! ^
      tables[512 + ((sum >>> 8) & 255)]! ^
      tables[256 + ((sum >>> 16) & 255)]! ^
      tables[sum >>> 24]!
  }
  for (; at < to; at++) sum = tables[(sum ^ bytes[at]!) & 255]! ^ (sum >>> 8)
  return ~sum
}

/** How a byte changes the sum when 0, 1, 2 or 3 bytes follow it. */
const tables = new Int32Array(4 * 256)
for (let i = 0; i < tables.length; i++) {
  let sum = i < 256 ? i : tables[i - 256]!
  if (i < 256) for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1
  else sum = tables[sum & 255]! ^ (sum >>> 8)
  tables[i] = sum
}
