import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject } from 'node:crypto'
import { readdir, readFile, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { changeError, operatorError } from '../failure.ts'
import { ifThere, reasonText } from '../file-failure.ts'
import { realDisk, writeWhole } from '../log/file-log/disk.ts'

/** The key that signs tree heads, in the folder `audit`. It is in no backup. */
const privateName = 'key.pem'
/** The public key, which checks receipts and heads. Those of earlier keys stay beside it. */
export const publicKeyName = 'public-key.pem'
const publicKeyNames = /^public-key(-[0-9a-f]{16})?\.pem$/

export const signerName = 'signer.pem'

/** A copy of the public key beside the folder, by which a start notices that the folder itself is lost. */
const signerIn = (folder: string) => join(dirname(folder), signerName)

/**
 * Reads the signing key of a folder. Only the owner may read its file.
 * @param hasHeads whether heads were signed before
 * @param isNew allows a new key where the old one is lost
 * @returns undefined if a new one is to be made
 */
export async function readSigningKey(
  folder: string,
  hasHeads: boolean,
  isNew = false,
): Promise<KeyObject | undefined> {
  const path = join(folder, privateName)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw unusable(path, error)
  })
  const known = await readPublicHalf(join(folder, publicKeyName))
  const signer = await readPublicHalf(signerIn(folder))
  if (text === undefined) {
    if ((known !== undefined || signer !== undefined || hasHeads) && !isNew) throw missing(path)
    return undefined
  }
  const key = privateKeyOf(path, text)
  if (known !== undefined && publicPem(key) !== publicPem(known)) throw mismatch(path, folder)
  return key
}

/**
 * Checks the key of a machine that shares its log with others, before it signs: one key signs for them all.
 * @param signer the public key that has signed on any of them, if one has
 * @throws HenceError `signing-key-missing`, `signing-key-mismatch`, `signing-key-unusable` (operator)
 */
export async function checkSigner(folder: string, signer: string | undefined, isNew = false): Promise<void> {
  const key = await readSigningKey(folder, signer !== undefined, isNew)
  if (key === undefined || signer === undefined || isNew || publicPem(key) === signer) return
  throw operatorError(
    'signing-key-mismatch',
    `The key ${join(folder, privateName)} is not the one that signs tree heads of this log on the other ` +
      'machines. Nothing was signed or changed. Copy their folder `audit` to this one.',
  )
}

/**
 * Keeps the key that `readSigningKey` found, or makes a new one. Everybody who checks needs its public half.
 * That of an earlier key stays, under another name.
 */
export async function keepSigningKey(folder: string, found: KeyObject | undefined): Promise<KeyObject> {
  const publicPath = join(folder, publicKeyName)
  const key = found ?? newSigningKey()
  const known = await readPublicHalf(publicPath)
  const signer = await readPublicHalf(signerIn(folder))
  const before = known ?? signer
  if (found === undefined) {
    if (before !== undefined) {
      const print = hash('sha256', publicPem(before)).slice(0, 16)
      await rename(known ? publicPath : signerIn(folder), join(folder, `public-key-${print}.pem`))
    }
    await writeNew(join(folder, privateName), key.export({ type: 'pkcs8', format: 'pem' }) as string)
  }
  if (found === undefined || known === undefined) await writeNew(publicPath, publicPem(key))
  if (signer === undefined || publicPem(signer) !== publicPem(key))
    await writeNew(signerIn(folder), publicPem(key))
  return key
}

async function readPublicHalf(path: string): Promise<KeyObject | undefined> {
  const pem = await ifThere(readFile(path, 'utf8'))
  try {
    return pem === undefined ? undefined : readPublicKey(pem)
  } catch (cause) {
    throw operatorError(
      'signing-key-unusable',
      `${path}, the public half of the key that signs tree heads, is damaged. Nothing was signed or changed. Put ` +
        `it back from a copy, or remove it: a start makes it again from ${privateName}.`,
      { cause },
    )
  }
}

/** The public keys in a folder: that in use, and those of earlier keys. */
export async function publicKeysIn(folder: string): Promise<KeyObject[]> {
  const keys = []
  for (const name of (await ifThere(readdir(folder))) ?? [])
    if (publicKeyNames.test(name)) keys.push(readPublicKey(await readFile(join(folder, name), 'utf8')))
  return keys
}

export const isPublicKey = (name: string): boolean => publicKeyNames.test(name)

/** Which halves of the key there are in a folder, and whether it has had one before it was lost. */
export async function halvesIn(folder: string) {
  const has = async (path: string) => (await ifThere(stat(path))) !== undefined
  return {
    own: await has(join(folder, privateName)),
    public: await has(join(folder, publicKeyName)),
    signer: await has(signerIn(folder)),
  }
}

export const newSigningKey = (): KeyObject => generateKeyPairSync('ed25519').privateKey

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
  throw changeError(
    'public-key-invalid',
    `This is not an Ed25519 public key in PEM: give the file audit/${publicKeyName} of the data directory of ` +
      'the log, or a copy.',
  )
}

function privateKeyOf(path: string, pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // The error names a routine of OpenSSL.
  }
  throw unusable(path, new Error('it is not an Ed25519 key in PEM'))
}

/** Writes a file, durably, whole or not at all; only the owner may read it. */
async function writeNew(path: string, text: string): Promise<void> {
  await writeWhole(realDisk, path, Buffer.from(text), 'signing key')
  await realDisk.syncDirectory(dirname(path), 'signing key')
}

const unusable = (path: string, cause: unknown) =>
  operatorError(
    'signing-key-unusable',
    `The key ${path}, which signs tree heads, cannot be used: ${reasonText(cause)} Put it back from a copy. ` +
      'Only if there is none, move it away and ask for a new one: `hence start --audit --new-key`.',
    { cause },
  )

const missing = (path: string) =>
  operatorError(
    'signing-key-missing',
    `The key ${path}, which has signed tree heads of this log, is missing. Nothing was signed or changed. ` +
      'Put it back from a copy, such as the folder `audit` of another machine with this log. Only if there is ' +
      'none, ask for a new one: `hence start --audit --new-key`, or `newKey` in code.',
  )

const mismatch = (path: string, folder: string) =>
  operatorError(
    'signing-key-mismatch',
    `The key ${path} does not belong to ${join(folder, publicKeyName)}, which everybody checks with. ` +
      'Nothing was signed or changed. Give the key that has signed the heads of this log.',
  )
