import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

/** Values that are given as bytes, so many at least, are compressed: traces and inputs, seldom read again. */
const compressedBytesMin = 2_048
/** Zstandard's first four bytes, which no UTF-8 text begins with. */
const zstdMagic = 0xfd2fb528
/**
 * V8 keeps the output buffers of each call until a full collection: the default ones, of more than 128 KiB
 * each, would be most of the memory.
 */
const outputBytes = 32 * 1024
const params = { [constants.ZSTD_c_compressionLevel]: 1 }
const decompression = { chunkSize: outputBytes }

/** The UTF-8 bytes of a text, or these compressed: as given if they are, or are few. */
export function compressed(bytes: Buffer): Buffer {
  const isSmall = bytes.length < compressedBytesMin || isCompressed(bytes, bytes.length)
  if (isSmall) return bytes
  return zstdCompressSync(bytes, { chunkSize: Math.min(bytes.length >> 2, outputBytes), params })
}

export function textOf(bytes: Buffer): string {
  return (isCompressed(bytes, bytes.length) ? zstdDecompressSync(bytes, decompression) : bytes).toString()
}

export function isCompressed(bytes: Buffer, length: number): boolean {
  return length >= 4 && bytes.readUInt32LE(0) === zstdMagic
}
