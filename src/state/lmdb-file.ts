import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { assert } from '../assert.ts'
import { shown } from '../failure.ts'
import { checksumLength, collectionHash, hashOf, isIntact } from './checksum.ts'

/**
 * The format of the state: of the stored values, and of what they hold. It stands in the unnamed database.
 * 4: compressed values; claims in blocks; inputs beside the holders of claims. 5: runs beside the blocks.
 * 7: claims and inputs in lists.
 */
export const stateFormat = '8'
export const formatKey = 'format'

/**
 * Checks LMDB's file before LMDB maps it. LMDB trusts its pages: a page that is missing or damaged ends the
 * process by a signal, or hides keys without a word. So everything that LMDB will follow is followed here
 * first: each page once, inside the file; keys in order; each value with its checksum; as many entries as the
 * databases say; and no page in use that is also free, so that an older version of a page is not taken for
 * the newest.
 *
 *   page      0 number, 8 transaction, 18 flags, 20 end of pointers, 22 begin of nodes, 24 pointers …
 *   meta      page 0 or 1: 24 magic, 28 version, 32 address, 40 size of the map, 48 free pages, 96 databases,
 *             144 last page, 152 transaction
 *   database  0 page size or 0, 4 flags, 6 depth, 8 branches, 16 leaves, 24 overflow pages, 32 entries, 40 root
 *   node      0 size of the data, or child (with the flags as its upper bits), 4 flags, 6 size of the key,
 *             8 key, data
 *
 * The numbers are little-endian. See `mdb.c` of LMDB 1.0, data version 2.
 */
export class LmdbFile {
  readonly #file: number
  bytes: number
  #pageSize = 4_096
  #last = 0
  #transaction = 0
  /** A bit for each page that is in use or free. */
  #seen = new Uint8Array(0)
  #pages = 0
  #pause: (done: number) => Promise<unknown> = turn

  /**
   * Checks the header of a file.
   * @returns undefined if there is nothing to check: no file, or one without any bytes
   */
  static open(path: string): LmdbFile | undefined {
    let file: number
    try {
      file = openSync(path, constants.O_RDONLY)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    try {
      return new LmdbFile(file)
    } catch (error) {
      closeSync(file)
      throw error
    }
  }

  private constructor(file: number) {
    this.#file = file
    const found = fstatSync(file)
    if (!found.isFile()) throw new Useless('data.mdb is a folder')
    this.bytes = found.size
  }

  close(): void {
    closeSync(this.#file)
  }

  /** Whether pages are missing at the end, which is damage unless they are free. */
  isCut(): boolean {
    this.header()
    return (this.#last + 1) * this.#pageSize > this.bytes
  }

  /** Checks that LMDB can map the file; returns the newest meta page. */
  header(): Buffer {
    const first = this.#read(0, 160)
    this.#pageSize = first.readUInt32LE(48)
    if (this.#pageSize !== 4_096 && this.#pageSize !== 8_192 && this.#pageSize !== 16_384)
      throw damaged(0, 'the size of pages is not one of LMDB')
    const metas = [first, this.#read(this.#pageSize, 160)]
    for (const [page, meta] of metas.entries()) {
      if (meta.readUInt32LE(24) !== 0xbeefc0de || meta.readUInt32LE(28) !== 2 || meta.readUInt16LE(18) !== 8)
        throw damaged(page, 'it is not a page of this LMDB version')
      const isKnown = meta.readUInt32LE(48) === this.#pageSize && meta.readUInt16LE(52) === 8
      if (!isKnown || numberIn(meta, 32) !== 0 || numberIn(meta, 40) > mapBytesMax)
        throw damaged(page, 'its settings are not those that were written')
    }
    const [a, b] = metas as [Buffer, Buffer]
    const newest = numberIn(a, 152) >= numberIn(b, 152) ? a : b
    this.#transaction = numberIn(newest, 152)
    this.#last = numberIn(newest, 144)
    // After the meta page: a writer may have made the file longer since it was opened.
    this.bytes = fstatSync(this.#file).size
    // The file may lack pages at its end, if they are free.
    if (this.#last > numberIn(newest, 40) / this.#pageSize)
      throw damaged(0, 'there are more pages than can be mapped')
    for (const at of [48, 96]) {
      const root = newest.readBigInt64LE(at + 40)
      if (root !== -1n) this.#inside(Number(root), 1)
    }
    return newest
  }

  /**
   * Checks all pages.
   * @param pause called about every millisecond, with how much has been checked, from 0 to 1
   * @returns the format of the state; undefined if nothing has been written
   */
  async check(pause: (done: number) => Promise<unknown> = () => turn()): Promise<string | undefined> {
    this.#pause = pause
    const meta = this.header()
    this.#seen = new Uint8Array((this.#last >>> 3) + 1)
    let format: string | undefined
    let isEmpty = true
    const named: [name: string, database: Buffer][] = []
    await this.#tree(meta.subarray(96, 144), (page, { bytes, key, value, end, isDatabase }) => {
      isEmpty = false
      // LMDB's binding ends names with a NUL.
      const name = bytes.toString('utf8', key, value).replace(/\0$/, '')
      if (isDatabase && end - value === 48) named.push([name, Buffer.from(bytes.subarray(value, end))])
      else if (name !== formatKey) throw damaged(page, 'it holds an unknown entry')
      else if (!isIntact(hashOf(name, collectionHash('')), bytes, value, end))
        throw damaged(page, 'the format of the state does not have its checksum')
      else format = bytes.toString('utf8', value, end - checksumLength)
    })
    // Only now: the format says how values are stored.
    if (isEmpty || format === stateFormat) {
      for (const [name, database] of named) {
        const hash = collectionHash(name)
        await this.#tree(database, (page, { bytes, key, value, end, isDatabase }, large) => {
          const text = bytes.toString('latin1', key, value)
          const [from, to] = large === undefined ? [value, end] : [0, large.length]
          if (!isDatabase && isIntact(hashOf(text, hash), large ?? bytes, from, to)) return
          const shownKey = shown(JSON.stringify(text))
          throw damaged(page, `the value of ${shownKey} of "${name}" does not have its checksum`)
        })
      }
      await this.#tree(meta.subarray(48, 96), (page, { bytes, value, end }, large) =>
        this.#free(page, large ?? bytes.subarray(value, end)),
      )
    }
    return isEmpty ? undefined : (format ?? 'none')
  }

  async #tree(database: Buffer, entry: EntryCheck): Promise<void> {
    const isOfNumbers = database.readUInt16LE(4) === 8
    if (!isOfNumbers && database.readUInt16LE(4) !== 0) throw damaged(0, 'a database has unknown settings')
    const depth = database.readUInt16LE(6)
    const counted = { branches: 0, leaves: 0, overflow: 0, entries: 0 }
    let last: KeyInPage | undefined
    let least: KeyInPage | undefined
    const compare = isOfNumbers ? compareNumbers : compareBytes
    const visit = async (number: number, level: number): Promise<void> => {
      const page = this.#page(number, 1)
      const isLeaf = level === depth
      if (page.readUInt16LE(18) !== (isLeaf ? 2 : 1)) throw damaged(number, 'it is of another kind')
      if (++this.#pages % pagesPerTurn === 0) await this.#pause(this.#pages / (this.#last + 1))
      counted[isLeaf ? 'leaves' : 'branches']++
      const [count, nodes] = [page.readUInt16LE(20) >>> 1, page.readUInt16LE(22)]
      if (
        count === 0 ||
        page.readUInt16LE(20) % 2 !== 0 ||
        nodes < 2 * count ||
        nodes > page.length - pageHeader
      )
        throw damaged(number, 'its header is not that of a page')
      for (let i = 0; i < count; i++) {
        const at = pageHeader + page.readUInt16LE(pageHeader + 2 * i)
        if (at < pageHeader + nodes || at + nodeHeader > page.length) throw damaged(number, outside)
        const flags = page.readUInt16LE(at + 4)
        const data = at + nodeHeader + page.readUInt16LE(at + 6)
        if (data > page.length) throw damaged(number, outside)
        const key = { bytes: page, key: at + nodeHeader, value: data }
        const length = data - key.key
        if (isOfNumbers && length !== 8 && (isLeaf || i > 0)) throw damaged(number, 'a key is no number')
        if (!isLeaf) {
          if (i > 0) {
            if (last !== undefined && compare(last, key) >= 0) throw damaged(number, unordered)
            least = key
          }
          await visit(page.readUInt32LE(at) + flags * 2 ** 32, level + 1)
          continue
        }
        const isSmall = least !== undefined && compare(key, least) < 0
        const isRepeated = last !== undefined && compare(last, key) >= 0
        if (length === 0 || isSmall || isRepeated) throw damaged(number, unordered)
        last = key
        least = undefined
        counted.entries++
        const size = page.readUInt32LE(at)
        if (flags !== 0 && flags !== 1 && flags !== 2) throw damaged(number, 'an entry has unknown flags')
        const end = data + (flags === 1 ? 24 : size)
        if (end > page.length) throw damaged(number, outside)
        let large: Buffer | undefined
        if (flags === 1) {
          const value = page.subarray(data, end)
          const pages = Math.floor((pageHeader - 1 + size) / this.#pageSize) + 1
          if (numberIn(value, 16) !== pages || numberIn(value, 8) > this.#transaction)
            throw damaged(number, 'a large value has another size')
          const overflow = this.#page(numberIn(value, 0), pages)
          if (overflow.readUInt16LE(18) !== 4 || overflow.readUInt32LE(20) !== pages)
            throw damaged(number, 'a large value is not where it was written')
          counted.overflow += pages
          large = overflow.subarray(pageHeader, pageHeader + size)
        }
        entry(number, { ...key, end, isDatabase: flags === 2 }, large)
      }
    }
    const root = database.readBigInt64LE(40)
    if (root !== -1n) await visit(Number(root), 1)
    const { branches, leaves, overflow, entries } = counted
    const found = [branches, leaves, overflow, entries]
    if (found.some((count, i) => count !== numberIn(database, 8 + 8 * i)))
      throw damaged(root === -1n ? 0 : Number(root), 'a database has more or fewer entries than were written')
  }

  /** A list of free pages: its length, then numbers of pages; -n before the first of n pages; 0 is nothing. */
  #free(page: number, list: Buffer): void {
    const count = list.length < 8 ? -1 : Number(list.readBigInt64LE())
    if (count < 0 || 8 * (count + 1) > list.length) throw damaged(page, 'a list of free pages is not whole')
    let pages = 1
    for (let i = 1; i <= count; i++) {
      const entry = Number(list.readBigInt64LE(8 * i))
      if (entry < 0) pages = -entry
      else if (entry > 0) {
        if (pages > this.#last || entry + pages - 1 > this.#last)
          throw damaged(page, 'a free page does not exist')
        for (let n = 0; n < pages; n++) this.#see(entry + n)
        pages = 1
      }
    }
  }

  /** Reads pages for the first time. */
  #page(number: number, pages: number): Buffer {
    this.#inside(number, pages)
    for (let n = 0; n < pages; n++) this.#see(number + n)
    const page = this.#read(number * this.#pageSize, pages * this.#pageSize)
    if (numberIn(page, 0) !== number || numberIn(page, 8) > this.#transaction)
      throw damaged(number, 'it is not the page that was written there')
    return page
  }

  #inside(number: number, pages: number): void {
    if (number < 2 || number + pages - 1 > this.#last) throw damaged(number, 'there is no such page')
    if ((number + pages) * this.#pageSize > this.bytes) throw damaged(number, 'the file ends before it')
  }

  #see(number: number): void {
    assert(number <= this.#last, 'a page that is used exists', number, this.#last)
    const bit = 1 << (number & 7)
    if (number < 2 || (this.#seen[number >>> 3]! & bit) !== 0)
      throw damaged(number, 'it is used twice, or is free and used')
    this.#seen[number >>> 3]! |= bit
  }

  #read(at: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    let read = 0
    while (read < length) {
      const more = readSync(this.#file, bytes, read, length - read, at + read)
      if (more === 0) throw damaged(Math.floor((at + read) / this.#pageSize), 'the file ends before it')
      read += more
    }
    return bytes
  }
}

/** Where a key is in a page: from `key` to `value`. */
interface KeyInPage {
  readonly bytes: Buffer
  readonly key: number
  readonly value: number
}

/** An entry of a leaf. Its value follows after the key, up to `end`; that of a large one is elsewhere. */
type EntryCheck = (
  page: number,
  entry: KeyInPage & { end: number; isDatabase: boolean },
  large?: Buffer,
) => void

function compareBytes(a: KeyInPage, b: KeyInPage): number {
  const length = Math.min(a.value - a.key, b.value - b.key)
  for (let i = 0; i < length; i++) {
    const difference = a.bytes[a.key + i]! - b.bytes[b.key + i]!
    if (difference !== 0) return difference
  }
  return a.value - a.key - (b.value - b.key)
}

function compareNumbers(a: KeyInPage, b: KeyInPage): number {
  return Number(a.bytes.readBigUInt64LE(a.key) - b.bytes.readBigUInt64LE(b.key))
}

const pageHeader = 24
const nodeHeader = 8
/** Between so many pages, which take about a millisecond, others may work. */
const pagesPerTurn = 256
/** More is no size that LMDB was opened with. */
const mapBytesMax = 2 ** 44
const outside = 'an entry lies outside of it'
const unordered = 'its keys are not in order'

const numberIn = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64LE(at))

/** Damage, or another format: the state is of no use any more, and must be derived again. */
export class Useless extends Error {}

function damaged(page: number, what: string): Useless {
  return new Useless(`page ${page} of data.mdb is damaged: ${what}`)
}
