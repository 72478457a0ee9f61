import { hash, randomBytes } from 'node:crypto'
import { open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { changeError, operatorError, retryError } from '../failure.ts'
import { reasonText } from '../file-failure.ts'
import type { Reporter } from '../report.ts'
import type { Caller } from './caller.ts'

/** An API key without its secret, which cannot be recovered. */
export interface Key {
  readonly id: string
  /** Its use, for people. */
  readonly name: string
  readonly principal: string
  readonly permissions: readonly string[]
  /** ISO 8601, like `expires`. */
  readonly created: string
  /** From this time on the key is refused; without it, the key does not expire. */
  readonly expires?: string
  /** The end of the secret, to distinguish keys. */
  readonly last4: string
}

/** The secret is 256 random bits: a slow hash, which protects passwords, would only slow down every request. */
interface StoredKey extends Key {
  readonly hash: string
}

interface KeyFile {
  readonly version: 2
  readonly keys: readonly StoredKey[]
  /** Of the keys as JSON: a flipped bit may not give a key the principal or the permissions of another one. */
  readonly sha256: string
}

const permissionForm = /^(submit(:[a-z][a-zA-Z0-9-]{0,63})?|read|operate|admin)$/

/**
 * Makes a key and adds it to a file, which only its owner can read; creates the file if it is missing.
 * @param file conventionally `keys.json` in the data directory
 * @returns the key and its secret, which is stored nowhere
 * @throws HenceError `key-options-invalid` (change), `keys-busy` (retry), `keys-unreadable` (operator)
 */
export async function createKey(
  file: string,
  wanted: {
    readonly name: string
    readonly principal: string
    readonly permissions: readonly string[]
    readonly expires?: Date
  },
  clock: Clock = systemClock,
): Promise<{ readonly key: Key; readonly secret: string }> {
  checkWanted(wanted)
  const secret = `hence_${randomBytes(32).toString('base64url')}`
  const key: Key = {
    id: randomBytes(6).toString('hex'),
    name: wanted.name,
    principal: wanted.principal,
    permissions: [...wanted.permissions],
    created: new Date(clock.now()).toISOString(),
    ...(wanted.expires && { expires: wanted.expires.toISOString() }),
    last4: secret.slice(-4),
  }
  await change(file, (keys) => [...keys, { ...key, hash: hashOf(secret) }])
  return { key, secret }
}

/** The keys in a file; none if the file is missing. */
export async function listKeys(file: string): Promise<Key[]> {
  return (await read(file)).map(({ hash: _, ...key }) => key)
}

/** Removes a key; false if there is none of this id. A running server refuses it within a second. */
export async function revokeKey(file: string, id: string): Promise<boolean> {
  let was = false
  await change(file, (keys) => {
    const rest = keys.filter((key) => key.id !== id)
    was = rest.length < keys.length
    return rest
  })
  return was
}

/** How often a running server checks whether the file has changed. */
const checkMs = 1_000

/** The keys of a running server, which follow the file. */
export type Keys = ReturnType<typeof keysOf>

export function keysOf(file: string, clock: Clock, report: Reporter) {
  let byHash = new Map<string, StoredKey>()
  let checkedAt = Number.NEGATIVE_INFINITY
  let checking: Promise<void> | undefined
  let seen: string | undefined
  /** Why the file could not be read when it was checked last. */
  let failure: Error | undefined

  const valid = (hash: string, now: number): StoredKey | undefined => {
    const key = byHash.get(hash)
    return key?.expires !== undefined && Date.parse(key.expires) <= now ? undefined : key
  }

  const check = async (now: number): Promise<void> => {
    const { ino, mtimeMs, size, mode } = await stat(file).catch(() => absent)
    const found = `${ino} ${mtimeMs} ${size}`
    const isOther = found !== seen
    seen = found
    if (isOther && (mode & othersMask) !== 0 && process.platform !== 'win32')
      report({ level: 'warning', code: 'keys-open-to-others', message: openText(file, mode) })
    if (isOther || failure) {
      try {
        byHash = new Map((await read(file)).map((key) => [key.hash, key]))
        failure = undefined
      } catch (error) {
        byHash = new Map()
        const { message } = error as Error
        if (message !== failure?.message) report({ level: 'alarm', code: 'keys-unreadable', message })
        failure = error as Error
      }
    }
    checkedAt = now
  }

  return {
    /**
     * The caller that a secret belongs to; undefined if it is unknown, revoked or expired.
     * @throws HenceError `keys-unreadable` (operator): while the file cannot be read, every key is refused
     */
    async callerOf(secret: string): Promise<Caller | undefined> {
      const now = clock.now()
      if (Math.abs(now - checkedAt) >= checkMs) {
        checking ??= check(now).finally(() => {
          checking = undefined
        })
        await checking
      }
      if (failure) throw failure
      return valid(hashOf(secret), now)
    },
    /** Whether a caller that `callerOf` returned still holds, as far as is known without checking the file. */
    isCurrent(caller: Caller): boolean {
      const now = clock.now()
      return Math.abs(now - checkedAt) < checkMs && valid((caller as StoredKey).hash, now) === caller
    },
  }
}

const openText = (file: string, mode: number) =>
  `Others than the owner may access the keys in ${file} (0${(mode & 0o777).toString(8)}). It holds no secrets, ` +
  `but whoever may write to it lets anybody in: run \`chmod go= ${file}\`.`

/** The bits of a mode that give access to others than the owner. */
const othersMask = 0o077
const absent = { ino: 0, mtimeMs: 0, size: -1, mode: 0 }

const hashOf = (text: string): string => hash('sha256', text)

async function read(file: string): Promise<readonly StoredKey[]> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(file, error)
  }
  try {
    const { version, keys, sha256 } = JSON.parse(text) as Omit<KeyFile, 'version'> & { version: 1 | 2 }
    const sound = keys.every(({ hash, principal, permissions, expires }) => {
      const whose = typeof principal === 'string' && Array.isArray(permissions)
      const until = expires === undefined || !Number.isNaN(Date.parse(expires))
      return /^[0-9a-f]{64}$/.test(hash) && whose && until
    })
    // Version 1 had no checksum.
    if (![1, 2].includes(version) || !sound) throw new Error('it does not have the form of version 2')
    if (version === 2 && sha256 !== hashOf(JSON.stringify(keys)))
      throw new Error('it is damaged, or was changed by hand: its checksum differs')
    return keys
  } catch (error) {
    throw unreadable(file, error)
  }
}

/** An unfinished file older than this was left behind by a process that has ended. */
const abandonedMs = 10_000

async function change(file: string, by: (keys: readonly StoredKey[]) => readonly StoredKey[]): Promise<void> {
  // Only one process at a time can create the file that will replace the old one, so no change is lost.
  const unfinished = `${file}.unfinished`
  const made = () => open(unfinished, 'wx', 0o600)
  const handle = await made().catch(async (error) => {
    if (error.code !== 'EEXIST') throw error
    const { mtimeMs } = await stat(unfinished)
    if (Date.now() - mtimeMs < abandonedMs) throw busy(file)
    await unlink(unfinished)
    return made()
  })
  try {
    const keys = by(await read(file))
    const content: KeyFile = { version: 2, keys, sha256: hashOf(JSON.stringify(keys)) }
    await handle.writeFile(`${JSON.stringify(content, undefined, 2)}\n`)
    await handle.sync()
    await rename(unfinished, file)
  } catch (error) {
    await unlink(unfinished).catch(() => {})
    throw error
  } finally {
    await handle.close()
  }
  const directory = await open(dirname(file))
  await directory.sync().finally(() => directory.close())
}

function checkWanted({ name, principal, permissions, expires }: Parameters<typeof createKey>[1]): void {
  const wrong =
    (name.trim() === '' && 'a key needs a name') ||
    (Buffer.byteLength(principal) > 255 && 'the principal has more than 255 bytes') ||
    (permissions.length === 0 && 'a key needs a permission') ||
    (expires !== undefined && Number.isNaN(expires.getTime()) && '`expires` is not a date') ||
    permissions
      .filter((permission) => !permissionForm.test(permission))
      .map((permission) => `${JSON.stringify(permission)} is not a permission`)[0]
  if (!wrong) return
  throw changeError(
    'key-options-invalid',
    `No key was made: ${wrong}. Permissions are submit, submit:TYPE, read, operate and admin.`,
  )
}

const busy = (file: string) =>
  retryError('keys-busy', `Another process is changing ${file}. Try again in a few seconds.`)

const unreadable = (file: string, cause: unknown) =>
  operatorError(
    'keys-unreadable',
    `The keys in ${file} cannot be read: ${reasonText(cause)} Every key is refused until it is mended: ` +
      'restore the file from a copy, or remove it and make new keys.',
    { cause },
  )
