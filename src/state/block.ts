/**
 * Blocks of entries with neighbouring keys. A table with many small rows takes a fifth of the space if the
 * store writes such blocks, compressed, and not each row: LMDB adds 14 bytes to an entry, fills its pages to
 * two thirds, and neighbours have most of their bytes in common.
 *
 *   block   entries in the order of their keys, as text
 *   entry   length of the key, length of the value (two characters, the upper 14 bits first), key, value
 */
type Block = string

/** In characters. Larger ones are split, unless they have one entry. */
const blockLengthMax = 64 * 1024
/** Those of runs are smaller: a row is looked for in one of each. */
const runLengthMax = 16 * 1024
/** A block may take very many changes, as the first one of all does: so many characters of them at a time. */
export const mergedLengthMax = 16 * blockLengthMax
/** The value of an entry of a run that removes a key; no text in JSON begins so. */
export const removed = '\0'
const headLength = 3
const upper = 0x4000

export type BlockEntry = readonly [key: string, value: string]
/** Undefined removes the entry. */
export type BlockChange = readonly [key: string, value: string | undefined]

export function* entriesOf(block: Block): Iterable<BlockEntry> {
  for (let at = 0; at < block.length; ) {
    const key = at + headLength
    const value = key + block.charCodeAt(at)
    at = endOf(block, at)
    yield [block.slice(key, value), block.slice(value, at)]
  }
}

export function valueIn(block: Block, wanted: string): string | undefined {
  for (let at = 0; at < block.length; ) {
    const value = at + headLength + block.charCodeAt(at)
    const begin = at
    at = endOf(block, at)
    if (value - begin - headLength === wanted.length && block.startsWith(wanted, begin + headLength))
      return block.slice(value, at)
  }
  return undefined
}

/** The entries of a block with lesser keys, and the others. */
export function cut(block: Block, wanted: string): [lesser: Block, others: Block] {
  let at = 0
  while (at < block.length && block.slice(at + headLength, at + headLength + block.charCodeAt(at)) < wanted)
    at = endOf(block, at)
  return [block.slice(0, at), block.slice(at)]
}

/** The end of the entry that begins at a position. */
function endOf(block: Block, at: number): number {
  const valueLength = block.charCodeAt(at + 1) * upper + block.charCodeAt(at + 2)
  return at + headLength + block.charCodeAt(at) + valueLength
}

/**
 * Applies changes, in the order of their keys, to a block. Entries that follow on all others fill blocks up,
 * since more may follow on them; otherwise a split leaves room in both parts.
 * @returns the blocks that take its place, each with the key of its first entry
 */
export function merged(block: Block, changes: readonly BlockChange[]): [first: string, block: Block][] {
  const entries: [key: string, entry: string][] = []
  let next = 0
  const apply = ([key, value]: BlockChange) => {
    if (value !== undefined) entries.push([key, entryOf(key, value)])
  }
  for (let at = 0; at < block.length; ) {
    const begin = at
    const key = block.slice(at + headLength, at + headLength + block.charCodeAt(at))
    at = endOf(block, at)
    while (next < changes.length && changes[next]![0] < key) apply(changes[next++]!)
    if (next < changes.length && changes[next]![0] === key) apply(changes[next++]!)
    else entries.push([key, block.slice(begin, at)])
  }
  const isAppend = next === 0
  for (; next < changes.length; next++) apply(changes[next]!)
  const total = entries.reduce((sum, [, entry]) => sum + entry.length, 0)
  return [
    ...blocksOf(entries, isAppend ? blockLengthMax : Math.ceil(total / Math.ceil(total / blockLengthMax))),
  ]
}

/** Changes, in the order of their keys, as blocks; each with the key of its first entry. */
export function runOf(changes: readonly BlockChange[]): Iterable<[first: string, block: Block]> {
  const entries = function* (): Iterable<[key: string, entry: string]> {
    for (const [key, value = removed] of changes) yield [key, entryOf(key, value)]
  }
  return blocksOf(entries(), runLengthMax)
}

function entryOf(key: string, value: string): string {
  return String.fromCharCode(key.length, Math.floor(value.length / upper), value.length % upper) + key + value
}

function* blocksOf(
  entries: Iterable<readonly [key: string, entry: string]>,
  lengthMax: number,
): Iterable<[first: string, block: Block]> {
  let [first, gathered] = ['', '']
  for (const [key, entry] of entries) {
    if (gathered !== '' && gathered.length + entry.length > lengthMax) {
      yield [first, gathered]
      gathered = ''
    }
    if (gathered === '') first = key
    gathered += entry
  }
  if (gathered !== '') yield [first, gathered]
}
