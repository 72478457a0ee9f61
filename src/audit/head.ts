import { type KeyObject, sign, verify } from 'node:crypto'
import { changeError } from '../failure.ts'

/** The sizes and roots of all trees of a log at one time. */
export interface TreeHead {
  readonly logId: string
  /** By the clock of the signer, in milliseconds since 1970. */
  readonly time: number
  readonly partitions: readonly PartitionHead[]
}

export interface PartitionHead {
  /** How many records the tree has. */
  readonly size: number
  /** Its root, in 64 hexadecimal digits. */
  readonly root: string
}

/**
 * A head signed with the key of its log, one line of JSON:
 *
 *   {"format":"hence-head","version":1,"logId":"…","time":1700000000000,"partitions":[{"size":3,"root":"…"}],"signature":"…"}
 *
 * The signature is Ed25519 in Base64, over the UTF-8 bytes of the same line without its last member.
 * `JSON.stringify` of a head that Hence made or read returns this line, too.
 */
export interface SignedHead extends TreeHead {
  readonly format: 'hence-head'
  readonly version: 1
  readonly signature: string
}

const format = 'hence-head'
const version = 1

export function signHead(key: KeyObject, head: TreeHead): SignedHead {
  const signature = sign(null, Buffer.from(signedText(head)), key).toString('base64')
  return { format, version, ...head, signature }
}

export function isSignedBy(key: KeyObject, head: SignedHead): boolean {
  return verify(null, Buffer.from(signedText(head)), key, Buffer.from(head.signature, 'base64'))
}

/** Returns the line of a head, without a line break. */
export function headLine(head: SignedHead): string {
  return `${signedText(head).slice(0, -1)},"signature":${JSON.stringify(head.signature)}}`
}

function signedText({ logId, time, partitions }: TreeHead): string {
  const trees = partitions.map(({ size, root }) => ({ size, root }))
  return JSON.stringify({ format, version, logId, time, partitions: trees })
}

/** Whether a value is a hash in hexadecimal digits. */
export const isHash = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)

/** Reads a head that is a value already, in a receipt or a proof. */
export const readHead = (head: unknown): SignedHead => parseHead(JSON.stringify(head ?? null))

/** Reads a head; does not check its signature. */
export function parseHead(line: string): SignedHead {
  let head: Partial<SignedHead> & { readonly format?: unknown; readonly version?: unknown }
  try {
    head = JSON.parse(line)
  } catch {
    throw invalid('it is not JSON')
  }
  if (head === null || typeof head !== 'object' || head.format !== format)
    throw invalid('it has another format')
  if (head.version !== version)
    throw invalid(`it has version ${head.version}, and this Hence knows only ${version}`)
  const { logId, time, partitions, signature } = head
  const isWhole =
    typeof logId === 'string' &&
    /^[0-9a-f]{32}$/.test(logId) &&
    Number.isSafeInteger(time) &&
    typeof signature === 'string' &&
    Array.isArray(partitions) &&
    partitions.every((each) => Number.isSafeInteger(each?.size) && each.size >= 0 && isHash(each.root))
  if (!isWhole) throw invalid('something is missing in it')
  const trees = partitions.map(({ size, root }) => ({ size, root }))
  return { format, version, logId, time: time!, partitions: trees, signature }
}

const invalid = (what: string) =>
  changeError(
    'head-invalid',
    `This is not a signed tree head: ${what}. Give a line of audit/heads.ndjson, or of a published copy.`,
  )
