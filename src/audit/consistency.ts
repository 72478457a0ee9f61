import type { KeyObject } from 'node:crypto'
import { changeError, operatorError } from '../failure.ts'
import { isHash, isSignedBy, type PartitionHead, readHead, type SignedHead } from './head.ts'
import { isConsistent } from './proof.ts'
import type { Tree } from './tree.ts'

/** Proves, to the holder of an earlier head, that the log has only grown since: no earlier record was changed. */
export interface Consistency {
  readonly format: 'hence-consistency'
  readonly version: 1
  /** By partition: the number of records that the earlier head covers. */
  readonly from: readonly number[]
  /** By partition: the consistency path (RFC 9162, 2.1.4.1) to the tree of `head`: hashes in hexadecimal digits. */
  readonly paths: readonly (readonly string[])[]
  readonly head: SignedHead
}

/** The growth that two heads and a proof between them show. */
export interface Growth {
  readonly logId: string
  /** When the earlier and the later head were signed, in milliseconds since 1970. */
  readonly from: number
  readonly to: number
  readonly records: number
}

/**
 * Checks, with the public key alone, that a log has only grown since a head: up to the head in the proof, no
 * record that the earlier head covers was changed or removed, and none was inserted among them.
 * @throws HenceError `head-invalid`, `consistency-invalid` (change) if it cannot be a proof; `not-consistent`
 *   (operator) if it proves nothing though the key has signed both heads: then the log was rewritten, unless
 *   another path proves it
 */
export function checkConsistency(key: KeyObject, earlier: unknown, proof: unknown): Growth {
  const { format, version, from, paths, head } = (proof ?? {}) as Partial<Consistency>
  if (format !== 'hence-consistency' || version !== 1)
    throw invalid('the proof has another format or version')
  const before = readHead(earlier)
  const after = readHead(head)
  const hashes = pathsOf(paths, before.partitions.length)
  if (hashes === undefined) throw invalid('something is missing in the proof')
  const differs = compareHeads(key, before, after)
  if (before.partitions.some(({ size }, partition) => from?.[partition] !== size))
    throw invalid('the proof is about another earlier head')
  for (const partition of differs) {
    const one = treeOf(before, partition)
    if (isConsistent(one, treeOf(after, partition), hashes[partition]!)) continue
    throw notConsistent(
      `it is not proven that partition ${partition} still begins with its first ${one.size} records`,
    )
  }
  const count = ({ partitions }: SignedHead) => partitions.reduce((sum, { size }) => sum + size, 0)
  return { logId: after.logId, from: before.time, to: after.time, records: count(after) - count(before) }
}

/**
 * Checks what two heads show without a proof: that they are signed, of one log, and do not contradict each
 * other.
 * @returns the partitions that have grown; about those the heads alone prove nothing
 * @throws HenceError `consistency-invalid` (change); `not-consistent` (operator) if they contradict each
 *   other
 */
export function compareHeads(key: KeyObject, earlier: SignedHead, later: SignedHead): number[] {
  for (const head of [earlier, later]) {
    if (!isSignedBy(key, head)) {
      throw invalid(`the head of ${new Date(head.time).toISOString()} was not signed with this key`)
    }
  }
  if (earlier.logId !== later.logId || earlier.partitions.length !== later.partitions.length)
    throw invalid(`one head is of log ${earlier.logId}, the other of ${later.logId}`)
  const grown = earlier.partitions.map(({ size }, partition) => later.partitions[partition]!.size - size)
  if (later.time <= earlier.time && grown.some((by) => by < 0) && grown.every((by) => by <= 0))
    throw invalid('the head that should be the later one is the earlier one')
  for (const [partition, by] of grown.entries()) {
    const [{ size, root }, after] = [earlier.partitions[partition]!, later.partitions[partition]!]
    if (by < 0)
      throw notConsistent(`partition ${partition} had ${size} records, and later only ${after.size}`)
    if (by === 0 && root !== after.root)
      throw notConsistent(`the ${size} records of partition ${partition} were others later`)
  }
  return [...grown.keys()].filter((partition) => grown[partition]! > 0)
}

function treeOf({ partitions }: SignedHead, partition: number): { size: number; root: Buffer } {
  const { size, root } = partitions[partition]!
  return { size, root: Buffer.from(root, 'hex') }
}

function pathsOf(paths: unknown, partitions: number): Buffer[][] | undefined {
  if (!Array.isArray(paths) || paths.length !== partitions) return undefined
  if (!paths.every((path) => Array.isArray(path) && path.every(isHash))) return undefined
  return paths.map((path) => path.map((hash: string) => Buffer.from(hash, 'hex')))
}

const invalid = (what: string) =>
  changeError(
    'consistency-invalid',
    `Nothing is proven: ${what}. Give the earlier head, a proof that was asked for with it, and the key of that log.`,
  )

const notConsistent = (what: string) =>
  operatorError(
    'not-consistent',
    `The log has not only grown: ${what}, though its key has signed both heads. Ask for the proof once ` +
      'more; if it stays so, the log was rewritten, or put back to an earlier time, after the earlier head was signed.',
  )

export function checkSizes(from: readonly number[], { partitions }: SignedHead): void {
  if (from.length !== partitions.length || !from.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw changeError(
      'head-sizes-invalid',
      `These are not the sizes of a head of this log: it has ${partitions.length} partitions, and a size ` +
        'for each is the number of its records.',
    )
  }
  const partition = partitions.findIndex(({ size }, i) => size < from[i]!)
  if (partition < 0) return
  throw operatorError(
    'log-shorter-than-head',
    `The newest head of this log covers ${partitions[partition]!.size} records of partition ${partition}, ` +
      `and the head in question ${from[partition]}: the log was put back to an earlier time, or the head ` +
      'is not of this log.',
  )
}

/** Whether a tree has grown out of what a head says of it. */
export function follows(tree: Tree, { size, root }: PartitionHead): boolean {
  if (size === 0) return true
  try {
    const later = { size: tree.size, root: tree.root() }
    return isConsistent({ size, root: Buffer.from(root, 'hex') }, later, tree.consistency(size, tree.size))
  } catch {
    return false
  }
}
