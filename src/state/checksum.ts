import { crc32 } from 'node:zlib'

/**
 * The checksum of a stored value, which binds it to its collection and key: 5 ASCII characters behind the
 * text. It is a CRC-32 of the text, begun with a hash of the names, so damage to any of them shows.
 */
export const checksumLength = 5

/** FNV-1a over the characters of a latin1 text: every change of one character changes it. */
export function hashOf(text: string, begin: number): number {
  let hash = begin
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** The seed of a collection's checksums. */
export function collectionSeed(name: string): number {
  return hashOf(name, 0x811c9dc5)
}

/** @param text the value without its checksum: text, or its UTF-8 bytes */
export function checksumOf(seed: number, key: string, text: string | Uint8Array): string {
  const sum = crc32(text, hashOf(key, seed))
  const [a, b, c] = [sum & 127, (sum >>> 7) & 127, (sum >>> 14) & 127]
  return String.fromCharCode(a, b, c, (sum >>> 21) & 127, sum >>> 28)
}

/** Whether bytes hold a key and then its value with the right checksum. */
export function isIntact(seed: number, bytes: Buffer, key: number, value: number, end: number): boolean {
  const at = end - checksumLength
  if (at < value) return false
  let sum = seed
  for (let i = key; i < value; i++) sum = Math.imul(sum ^ bytes[i]!, 0x01000193)
  sum = at - value > shortMax ? crc32(bytes.subarray(value, at), sum >>> 0) : shortCrc(bytes, value, at, sum)
  for (let i = 0; i < checksumLength; i++) if (bytes[at + i] !== ((sum >>> (7 * i)) & 127)) return false
  return true
}

/** For fewer bytes than this a call into Node costs more than the sum. */
const shortMax = 256

const table = Int32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1
  return sum
})

function shortCrc(bytes: Buffer, from: number, to: number, begin: number): number {
  let sum = ~begin
  for (let i = from; i < to; i++) sum = table[(sum ^ bytes[i]!) & 255]! ^ (sum >>> 8)
  return ~sum
}
