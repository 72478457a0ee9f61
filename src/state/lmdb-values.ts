import { shown } from '../failure.ts'
import { checksumLength, crcOf, hashIn, hashOf } from './checksum.ts'
import { compressed, isCompressed, textOf } from './compression.ts'
import { Useless } from './lmdb-file.ts'

/** The hash of the names under which the value that was decoded last was written. */
let decodedHash = 0
/** Whether that value is compressed; then it was decoded as latin1. */
let wasCompressed = false

/** The buffer that the binding reads small values into, and a plain view of it. */
let reading: { readonly of: Buffer; readonly view: Buffer } | undefined

/** Values in LMDB are the bytes of a text, or those bytes compressed, and a checksum. */
export const encoder = {
  encode: (slice: Slice) => slice,
  decode(bytes: Buffer & { readonly isGlobal?: boolean; readonly maxLength?: number }): string {
    const { length } = bytes
    if (length < checksumLength) throw new Useless('a value is shorter than its checksum')
    let view = reading?.view
    if (reading?.of !== bytes) {
      // The binding gives its buffer a length of its own, which makes each access slow.
      view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.maxLength ?? length)
      if (bytes.isGlobal) reading = { of: bytes, view }
    }
    decodedHash = hashIn(view!, 0, length)
    wasCompressed = isCompressed(view!, length - checksumLength)
    return view!.toString(wasCompressed ? 'latin1' : 'utf8', 0, length - checksumLength)
  },
}

/** The bytes of a value, which the binding needs until they are committed. It keeps their address here. */
export interface Slice {
  readonly buffer: ArrayBufferLike
  start: number
  end: number
  address: number
}

interface EncodingBuffer {
  readonly bytes: Buffer
  readonly slice: Slice
}

function toFill(length: number): EncodingBuffer {
  const bytes = Buffer.allocUnsafeSlow(length)
  return { bytes, slice: { buffer: bytes.buffer, start: 0, end: 0, address: 0 } }
}

const bufferBytesMax = 1024 * 1024
/** So many of the largest buffers are used again; that much an engine holds at most while it writes nothing. */
const reusedMax = 4

/** Makes values for LMDB, one after the other in large buffers. */
export class Encoding {
  #now = toFill(0)
  #filled: EncodingBuffer[] = []
  #free: EncodingBuffer[] = []

  /**
   * @param hash of the collection and the key
   * @returns a slice whose ends change with the next value
   */
  encode(hash: number, given: string | Buffer): Slice {
    const value = typeof given === 'string' ? given : compressed(given)
    const lengthMax = (typeof value === 'string' ? 3 : 1) * value.length + checksumLength
    if (this.#now.slice.end + lengthMax > this.#now.bytes.length) {
      this.#filled.push(this.#now)
      const twice = Math.min(2 * this.#now.bytes.length, bufferBytesMax)
      const free = lengthMax > bufferBytesMax ? undefined : this.#free.pop()
      this.#now = free ?? toFill(Math.max(twice, 4_096, lengthMax))
    }
    const { bytes, slice } = this.#now
    const start = slice.end
    const length = typeof value === 'string' ? bytes.write(value, start, 'utf8') : value.copy(bytes, start)
    slice.start = start
    slice.end = bytes.writeInt32LE(crcOf(bytes, start, start + length) ^ hash, start + length)
    return slice
  }

  /** All values are committed: uses large buffers again, which would be garbage until a full collection. */
  clear(): void {
    for (const each of [...this.#filled, this.#now]) {
      if (each.bytes.length !== bufferBytesMax || this.#free.length === reusedMax) continue
      each.slice.start = each.slice.end = 0
      this.#free.push(each)
    }
    this.#now = toFill(0)
    this.#filled = []
  }
}

/**
 * The text of a value, after its checksum.
 * @param value was decoded just now
 */
export function checked(collection: string, hash: number, key: string, value: string): string {
  if (decodedHash === hashOf(key, hash)) return wasCompressed ? textOf(Buffer.from(value, 'latin1')) : value
  throw new Useless(
    `the value of ${shown(JSON.stringify(key))} of "${collection}" does not have its checksum`,
  )
}
