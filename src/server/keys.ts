import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import type { Reporter } from '../report.ts'
import type { Caller } from './caller.ts'

/** An API key, without its secret, which nobody can find out again. */
export interface Key {
  readonly id: string
  /** For people: what it is used for. */
  readonly name: string
  readonly principal: string
  readonly permissions: readonly string[]
  /** ISO 8601, as `expires` is. */
  readonly created: string
  /** From then on it is refused; without it, it never is. */
  readonly expires?: string
  /** The end of the secret, to tell keys apart by. */
  readonly last4: string
}

/**
 * The secret is 256 random bits, so its SHA-256 says nothing of it, and nobody can try all of them: a slow hash
 * such as bcrypt protects what people make up, and would only make every request slow here.
 */
interface StoredKey extends Key {
  readonly hash: string
}

interface KeyFile {
  readonly version: 1
  readonly keys: readonly StoredKey[]
}

const permissionForm = /^(submit(:[a-z][a-zA-Z0-9-]{0,63})?|read|operate|admin)$/

/**
 * Makes a key and adds it to a file, which is made where it is missing, readable by its owner alone.
 * @param file conventionally `keys.json` in the data directory
 * @returns the secret, which is told this once and stored nowhere
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

/** The keys in a file; none where the file is missing. */
export async function listKeys(file: string): Promise<Key[]> {
  return (await read(file)).map(({ hash: _, ...key }) => key)
}

/** Takes a key out of a file; false when it has none of this id. A running server refuses it within a second. */
export async function revokeKey(file: string, id: string): Promise<boolean> {
  let was = false
  await change(file, (keys) => {
    const rest = keys.filter((key) => key.id !== id)
    was = rest.length < keys.length
    return rest
  })
  return was
}

/** How often a running server looks whether the file has changed. */
const lookMs = 1_000

/** The keys of a running server: it follows the file. */
export class Keys {
  readonly #file: string
  readonly #clock: Clock
  readonly #report: Reporter
  #byHash = new Map<string, StoredKey>()
  #lookedAt = Number.NEGATIVE_INFINITY
  #looking: Promise<void> | undefined
  #seen: string | undefined

  constructor(file: string, clock: Clock, report: Reporter) {
    this.#file = file
    this.#clock = clock
    this.#report = report
  }

  /**
   * Whose a secret is; undefined for one that is unknown, revoked or expired.
   * @throws HenceError `keys-unreadable` (operator): as long as the file cannot be read, nobody is let in
   */
  async callerOf(secret: string): Promise<Caller | undefined> {
    const now = this.#clock.now()
    if (Math.abs(now - this.#lookedAt) >= lookMs) {
      this.#looking ??= this.#look(now).finally(() => {
        this.#looking = undefined
      })
      await this.#looking
    }
    const key = this.#byHash.get(hashOf(secret))
    if (key === undefined || (key.expires !== undefined && Date.parse(key.expires) <= now)) return undefined
    return key
  }

  async #look(now: number): Promise<void> {
    const seen = await stat(this.#file).then(
      ({ ino, mtimeMs, size }) => `${ino} ${mtimeMs} ${size}`,
      () => 'missing',
    )
    if (seen !== this.#seen) {
      try {
        this.#byHash = new Map((await read(this.#file)).map((key) => [key.hash, key]))
      } catch (error) {
        this.#byHash = new Map()
        this.#seen = undefined
        this.#report({ level: 'alarm', code: 'keys-unreadable', message: (error as Error).message })
        throw error
      }
      this.#seen = seen
    }
    this.#lookedAt = now
  }
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

async function read(file: string): Promise<readonly StoredKey[]> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(file, error)
  }
  try {
    const { version, keys } = JSON.parse(text) as KeyFile
    const sound = keys.every(({ hash, principal, permissions, expires }) => {
      const whose = typeof principal === 'string' && Array.isArray(permissions)
      const until = expires === undefined || !Number.isNaN(Date.parse(expires))
      return /^[0-9a-f]{64}$/.test(hash) && whose && until
    })
    if (version !== 1 || !sound) throw new Error('it has not the form of version 1')
    return keys
  } catch (error) {
    throw unreadable(file, error)
  }
}

/** A file that is being written for longer than this was left behind by a process that ended meanwhile. */
const abandonedMs = 10_000

async function change(file: string, by: (keys: readonly StoredKey[]) => readonly StoredKey[]): Promise<void> {
  // The file that will replace the old one can be made by one process at a time, so no change is lost.
  const unfinished = `${file}.unfinished`
  const handle = await open(unfinished, 'wx', 0o600).catch(async (error) => {
    if (error.code !== 'EEXIST') throw error
    const { mtimeMs } = await stat(unfinished)
    if (Date.now() - mtimeMs < abandonedMs) throw busy(file)
    await unlink(unfinished)
    return open(unfinished, 'wx', 0o600)
  })
  try {
    const content: KeyFile = { version: 1, keys: by(await read(file)) }
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

function checkWanted({
  name,
  principal,
  permissions,
  expires,
}: Omit<Parameters<typeof createKey>[1], never>): void {
  const wrong =
    (name.trim() === '' && 'a key needs a name') ||
    (Buffer.byteLength(principal) > 255 && 'the principal has more than 255 bytes') ||
    (permissions.length === 0 && 'a key needs a permission') ||
    (expires !== undefined && Number.isNaN(expires.getTime()) && '`expires` is no date') ||
    permissions
      .filter((permission) => !permissionForm.test(permission))
      .map((permission) => `${JSON.stringify(permission)} is no permission`)[0]
  if (!wrong) return
  throw new HenceError(
    'key-options-invalid',
    'change',
    `No key was made: ${wrong}. Permissions are submit, submit:TYPE, read, operate and admin.`,
  )
}

function busy(file: string): HenceError {
  return new HenceError(
    'keys-busy',
    'retry',
    `Another process is changing ${file}. Try again in a few seconds.`,
  )
}

function unreadable(file: string, cause: unknown): HenceError {
  return new HenceError(
    'keys-unreadable',
    'operator',
    `The keys in ${file} cannot be read: ${(cause as Error).message}. Nobody is let in by a key until it is mended: ` +
      'put it back from a copy, or remove it and make new keys.',
    { cause },
  )
}
