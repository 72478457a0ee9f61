// Checks receipts as docs/reference/audit.md describes them, with the cryptography of the browser alone.

/** A receipt that is what it should be in form. */
interface Receipt {
  readonly partition: number
  readonly offset: number
  readonly record: Uint8Array<ArrayBuffer>
  readonly path: readonly Uint8Array[]
  readonly head: Head
}

export interface Head {
  readonly logId: string
  /** When it was signed, in milliseconds since 1970. */
  readonly time: number
  readonly partitions: readonly { readonly size: number; readonly root: string }[]
  readonly signature: string
}

/** The facts that a receipt proves. */
export interface Proven {
  readonly logId: string
  readonly token: string
  readonly bytes: number
  /** The record was in the log by this time. */
  readonly headTime: number
  /** Without the public key the signature is not checked, so anybody can have made the receipt. */
  readonly isSigned: boolean
}

/**
 * Checks that the record leads to the root in the head and, with the public key, that this key has signed
 * the head.
 * @param pem the public key of the log (SPKI)
 * @throws Error that says why the receipt proves nothing
 */
export async function checkReceipt(text: string, pem: string | undefined): Promise<Proven> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new Error('this page has no cryptography: browsers offer it over https, or on this machine')
  }
  const { partition, offset, record, path, head } = receiptIn(text)
  if (pem !== undefined && !(await isSignedBy(pem, head)))
    throw new Error('its head was not signed with this key')
  const tree = head.partitions[partition]
  if (tree === undefined) throw new Error('its head has no such partition')
  if ((await rootOf(record, offset, tree.size, path)) !== tree.root) {
    throw new Error('the record is not in the tree that was signed')
  }
  const token = `${partition}:${offset}`
  const { logId, time } = head
  return { logId, token, bytes: record.length, headTime: time, isSigned: pem !== undefined }
}

function receiptIn(text: string): Receipt {
  let given: Record<string, unknown>
  try {
    given = JSON.parse(text) as Record<string, unknown>
  } catch {
    throw new Error('it is not JSON')
  }
  const { format, version, partition, offset, record, path, head } = given ?? {}
  if (format !== 'hence-receipt' || version !== 1) throw new Error('it has another format or version')
  if (!isCount(partition) || !isCount(offset) || typeof record !== 'string' || !Array.isArray(path)) {
    throw new Error('something is missing in it')
  }
  if (!path.every(isHash)) throw new Error('its path is not one of hashes')
  return { partition, offset, record: fromBase64(record), path: path.map(fromHex), head: headIn(head) }
}

function headIn(given: unknown): Head {
  const { format, version, logId, time, partitions, signature } = (given ?? {}) as Record<string, unknown>
  const isWhole =
    format === 'hence-head' &&
    version === 1 &&
    typeof logId === 'string' &&
    /^[0-9a-f]{32}$/.test(logId) &&
    Number.isSafeInteger(time) &&
    typeof signature === 'string' &&
    Array.isArray(partitions) &&
    partitions.every((each) => isCount(each?.size) && isHash(each?.root))
  if (!isWhole) throw new Error('its head is not a signed tree head')
  return { logId, time: time as number, partitions, signature }
}

async function isSignedBy(pem: string, { logId, time, partitions, signature }: Head): Promise<boolean> {
  const trees = partitions.map(({ size, root }) => ({ size, root }))
  const signed = JSON.stringify({ format: 'hence-head', version: 1, logId, time, partitions: trees })
  const der = /-----BEGIN PUBLIC KEY-----([\s\S]+?)-----END PUBLIC KEY-----/.exec(pem)?.[1]
  if (der === undefined) throw new Error('the key is not a public key in PEM')
  let key: CryptoKey
  try {
    key = await crypto.subtle.importKey('spki', fromBase64(der), 'Ed25519', false, ['verify'])
  } catch {
    throw new Error('the key is not an Ed25519 key, or this browser does not know Ed25519')
  }
  return crypto.subtle.verify('Ed25519', key, fromBase64(signature), new TextEncoder().encode(signed))
}

/** The root that an inclusion path leads to (RFC 9162, 2.1.3.2); undefined if it does not fit such a tree. */
async function rootOf(record: Uint8Array, index: number, size: number, path: readonly Uint8Array[]) {
  if (index >= size) return undefined
  let [at, last] = [index, size - 1]
  let root = await sha256(0, record)
  for (const sibling of path) {
    if (last === 0) return undefined
    if (at % 2 === 1 || at === last) {
      root = await sha256(1, sibling, root)
      // A node without a right neighbour goes up unchanged until it has a left one.
      while (at % 2 === 0 && at > 0) [at, last] = [at / 2, Math.floor(last / 2)]
    } else {
      root = await sha256(1, root, sibling)
    }
    ;[at, last] = [Math.floor(at / 2), Math.floor(last / 2)]
  }
  return last === 0 ? hexOf(root) : undefined
}

async function sha256(prefix: number, ...parts: readonly Uint8Array[]): Promise<Uint8Array> {
  const bytes = new Uint8Array(1 + parts.reduce((sum, part) => sum + part.length, 0))
  bytes[0] = prefix
  let at = 1
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isHash = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text.replace(/\s/g, '')), (char) => char.charCodeAt(0))
  } catch {
    throw new Error('a part of it is not Base64')
  }
}

const fromHex = (text: string) =>
  Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
const hexOf = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
