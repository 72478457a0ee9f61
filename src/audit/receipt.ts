import type { KeyObject } from 'node:crypto'
import { changeError } from '../failure.ts'
import { isHash, isSignedBy, readHead, type SignedHead } from './head.ts'
import { rootOfInclusion } from './proof.ts'

/** Proves that a record is in a log. Checking it needs the public key of the log, and no server. */
export interface Receipt {
  readonly format: 'hence-receipt'
  readonly version: 1
  readonly partition: number
  readonly offset: number
  /** The bytes of the record as the log holds them, in Base64; see docs/reference/log-format.md. */
  readonly record: string
  /** The inclusion path (RFC 9162, 2.1.3.1) in the partition's tree of that head: hashes in hexadecimal digits. */
  readonly path: readonly string[]
  readonly head: SignedHead
}

/** The facts that a receipt proves. */
export interface Proven {
  readonly logId: string
  readonly partition: number
  readonly offset: number
  readonly record: Buffer
  /** The record was in the log by this time, when the head was signed: milliseconds since 1970. */
  readonly headTime: number
}

/**
 * Checks a receipt with the public key alone.
 * @throws HenceError `receipt-invalid` (change) if it does not prove what it says
 */
export function checkReceipt(key: KeyObject, receipt: unknown): Proven {
  const { format, version, partition, offset, record, path, head } = (receipt ?? {}) as Partial<Receipt>
  if (format !== 'hence-receipt' || version !== 1) throw invalid('it has another format or version')
  const isWhole =
    typeof record === 'string' &&
    Number.isSafeInteger(partition) &&
    Number.isSafeInteger(offset) &&
    Array.isArray(path) &&
    path.every(isHash)
  if (!isWhole) throw invalid('something is missing in it')
  const signed = readHead(head)
  if (!isSignedBy(key, signed)) throw invalid('its head was not signed with this key')
  const tree = signed.partitions[partition!]
  if (tree === undefined) throw invalid('its head has no such partition')
  const bytes = Buffer.from(record, 'base64')
  const hashes = path.map((hash) => Buffer.from(hash, 'hex'))
  const root = rootOfInclusion(bytes, offset!, tree.size, hashes)
  if (root?.toString('hex') !== tree.root) throw invalid('the record is not in the tree that was signed')
  return {
    logId: signed.logId,
    partition: partition!,
    offset: offset!,
    record: bytes,
    headTime: signed.time,
  }
}

const invalid = (what: string) =>
  changeError(
    'receipt-invalid',
    `The receipt proves nothing: ${what}. Either it was changed, or the key is that of another log.`,
  )
