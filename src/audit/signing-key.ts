import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject } from 'node:crypto'
import { readdir, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { changeError, operatorError } from '../failure.ts'
import { realDisk, writeWhole } from '../log/file-log/disk.ts'

/** The key that signs tree heads, in the folder `audit`. It is in no backup. */
const privateName = 'key.pem'
/** The public key, which checks receipts and heads. Those of earlier keys stay beside it. */
export const publicKeyName = 'public-key.pem'
const publicKeyNames = /^public-key(-[0-9a-f]{16})?\.pem$/

/**
 * Reads the signing key of a folder, or makes it the first time. Only the owner may read its file.
 * @param hasHeads whether heads were signed before
 * @param isNew makes a new key where the old one is lost; everybody who checks needs its public half. That of
 *   the old one stays, under another name
 * @throws HenceError `signing-key-unusable`, `signing-key-missing`, `signing-key-mismatch` (operator)
 */
export async function openSigningKey(folder: string, hasHeads: boolean, isNew = false): Promise<KeyObject> {
  const path = join(folder, privateName)
  const publicPath = join(folder, publicKeyName)
  const found = await readSigningKey(folder, hasHeads, isNew)
  const known = await read(publicPath)
  if (found !== undefined) {
    if (known === undefined) await writeNew(publicPath, publicPem(found))
    return found
  }
  const key = newSigningKey()
  if (known !== undefined) {
    const print = hash('sha256', publicPem(readPublicKey(known))).slice(0, 16)
    await rename(publicPath, join(folder, `public-key-${print}.pem`))
  }
  await writeNew(path, key.export({ type: 'pkcs8', format: 'pem' }) as string)
  await writeNew(publicPath, publicPem(key))
  return key
}

/**
 * Reads the signing key of a folder; undefined if a new one is to be made.
 * @throws HenceError as `openSigningKey`; `public-key-invalid` (change)
 */
export async function readSigningKey(
  folder: string,
  hasHeads: boolean,
  mayMiss = false,
): Promise<KeyObject | undefined> {
  const path = join(folder, privateName)
  const text = await read(path)
  const known = await read(join(folder, publicKeyName))
  if (text === undefined) {
    if ((known !== undefined || hasHeads) && !mayMiss) throw missing(path)
    return undefined
  }
  const key = privateKeyOf(path, text)
  if (known !== undefined && publicPem(key) !== publicPem(readPublicKey(known))) throw mismatch(path, folder)
  return key
}

/**
 * The public keys in a folder: that in use, and those of earlier keys.
 * @throws HenceError `public-key-invalid` (change)
 */
export async function publicKeysIn(folder: string): Promise<KeyObject[]> {
  const keys = []
  for (const name of await readdir(folder).catch(() => []))
    if (publicKeyNames.test(name)) keys.push(readPublicKey(await readFile(join(folder, name), 'utf8')))
  return keys
}

export const isPublicKey = (name: string): boolean => publicKeyNames.test(name)

export async function halvesIn(folder: string): Promise<{ readonly own: boolean; readonly public: boolean }> {
  const has = async (name: string) => (await read(join(folder, name))) !== undefined
  return { own: await has(privateName), public: await has(publicKeyName) }
}

function read(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw unusable(path, error)
  })
}

export const newSigningKey = (): KeyObject => generateKeyPairSync('ed25519').privateKey

/** Returns the public key as PEM (SPKI), from a private or public key. */
function publicPem(key: KeyObject): string {
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
  throw changeError(
    'public-key-invalid',
    `This is no Ed25519 public key in PEM: give the file audit/${publicKeyName} of the data directory of ` +
      'the log, or a copy.',
  )
}

function privateKeyOf(path: string, pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType !== 'ed25519') throw new Error('it is not an Ed25519 key')
    return key
  } catch (error) {
    throw unusable(path, error)
  }
}

/** Writes a file, durably, whole or not at all; only the owner may read it. */
async function writeNew(path: string, text: string): Promise<void> {
  await writeWhole(realDisk, path, Buffer.from(text), 'signing key')
  await realDisk.syncDirectory(dirname(path), 'signing key')
}

const unusable = (path: string, cause: unknown) =>
  operatorError(
    'signing-key-unusable',
    `The key ${path}, which signs tree heads, cannot be used: ${(cause as Error).message}. Put it back from a copy. ` +
      'Only if there is none, move it away and ask for a new one: `hence start --audit --new-key`.',
    { cause },
  )

const missing = (path: string) =>
  operatorError(
    'signing-key-missing',
    `The key ${path}, which has signed tree heads of this log, is missing. Nothing was signed or changed. ` +
      'Put it back from a copy. Only if there is none, ask for a new one: `hence start --audit ' +
      '--new-key`, or `newKey` in code.',
  )

const mismatch = (path: string, folder: string) =>
  operatorError(
    'signing-key-mismatch',
    `The key ${path} does not belong to ${join(folder, publicKeyName)}, which everybody checks with. ` +
      'Nothing was signed or changed. Give the key that has signed the heads of this log.',
  )
