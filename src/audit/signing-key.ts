import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { HenceError } from '../failure.ts'

/** The key that signs tree heads, in the folder `audit`; it never leaves that. */
const privateName = 'key.pem'
/** The public key, which checks receipts and heads. */
export const publicKeyName = 'public-key.pem'

/**
 * Reads the signing key of a folder, or makes it the first time. Only the owner may read its file.
 * @throws HenceError `signing-key-unusable` (operator)
 */
export async function openSigningKey(folder: string): Promise<KeyObject> {
  const path = join(folder, privateName)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw unusable(path, error)
  })
  const key = text === undefined ? newSigningKey() : privateKeyOf(path, text)
  if (text === undefined) await writeNew(path, key.export({ type: 'pkcs8', format: 'pem' }) as string, 0o600)
  await writeNew(join(folder, publicKeyName), publicPem(key), 0o600)
  return key
}

export function newSigningKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey
}

/** Returns the public key as PEM (SPKI), from a private or public key. */
export function publicPem(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return publicKey.export({ type: 'spki', format: 'pem' }) as string
}

/**
 * Reads a public key, PEM.
 * @throws HenceError `public-key-invalid` (change)
 */
export function readPublicKey(pem: string): KeyObject {
  try {
    const key = createPublicKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Falls through to the error, like a key of another kind.
  }
  throw new HenceError(
    'public-key-invalid',
    'change',
    `This is no Ed25519 public key in PEM: give the file audit/${publicKeyName} of the data directory of the log, or a copy.`,
  )
}

function privateKeyOf(path: string, pem: string): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch (error) {
    throw unusable(path, error)
  }
}

/** Writes a file whole or not at all. */
async function writeNew(path: string, text: string, mode: number): Promise<void> {
  const unfinished = `${path}.unfinished`
  await rm(unfinished, { force: true })
  const file = await open(unfinished, 'wx', mode)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(unfinished, path)
}

function unusable(path: string, cause: unknown): HenceError {
  return new HenceError(
    'signing-key-unusable',
    'operator',
    `The key ${path}, which signs tree heads, cannot be read: ${(cause as Error).message}. Put it back from a copy. ` +
      'Only if there is none, remove it: a start makes a new key, and everybody who checks needs its public half.',
    { cause },
  )
}
