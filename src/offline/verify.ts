import type { KeyObject } from 'node:crypto'
import { join, resolve } from 'node:path'
import { parseHead, type SignedHead } from '../audit/head.ts'
import { HeadCheck } from '../audit/head-check.ts'
import { someHeads } from '../audit/head-file.ts'
import { readRehearsal } from '../audit/rehearsed.ts'
import { rehearsalName } from '../audit/scrubber.ts'
import { publicKeyName, publicKeysIn, readPublicKey } from '../audit/signing-key.ts'
import { type Flaw, flawOf, verifyLog } from '../audit/verify.ts'
import { HenceError } from '../failure.ts'
import type { LogSnapshot } from '../log/file-log/snapshot.ts'
import { recordsBefore } from '../log/partitions.ts'
import { lockHolderOf } from '../storage/directory-lock.ts'
import { fileExists, fileUnreadable, readText, readTextIfThere } from '../storage/text-file.ts'
import { type ConsistentSnapshot, recordsIn, snapshotConsistently } from './data-snapshot.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'
import { withTemporaryFolder } from './temporary-folder.ts'
import {
  type CopiedState,
  copyStates,
  copyStoredViews,
  type VerifiedHistory,
  verifyHistory,
} from './verify-history.ts'

export interface VerifyOptions extends LongWork {
  /** The data directory. A process may have it open. */
  readonly data: string
  /** Files of signed heads, one head a line, to check besides those in the data directory. */
  readonly heads?: readonly string[] | undefined
  /**
   * The public key that the heads are checked with, or several of one signer. Default: `audit/public-key.pem`
   * of the data directory, and those of its earlier keys beside it.
   */
  readonly key?: KeyObject | readonly KeyObject[] | undefined
  /** Whether to derive all tables again and compare them. Default true. */
  readonly history?: boolean | undefined
}

/** The result of `verify`. */
export interface Verification {
  /** The data directory, as an absolute path. */
  readonly directory: string
  /** Whether there are no flaws. */
  readonly ok: boolean
  /** Null when the log could not be read at all. */
  readonly logId: string | null
  /** How many records were read, and their size. */
  readonly records: number
  readonly bytes: number
  /** How many signed heads the log was checked against. */
  readonly heads: number
  readonly history: VerifiedHistory
  readonly flaws: readonly Flaw[]
}

/**
 * Checks that a data directory holds what was written, signed and derived: every byte of the log, its hash
 * chain, the signed heads (RFC 9162 trees), the tables, and the files kept beside the log. It changes
 * nothing. Beside a running process it checks all that was acknowledged before the call.
 * @throws HenceError `no-log`, `head-invalid`, `public-key-invalid`, `file-unreadable` (change). Damage is no
 *   error: it is in `flaws`
 */
export async function verify(options: VerifyOptions): Promise<Verification> {
  const { data, signal } = options
  const flaws: Flaw[] = []
  const inUse = (await lockHolderOf(data)) !== undefined
  // Read before the log: the log must hold all that was signed until now.
  const signed = await gatherHeads(options, flaws)
  return withTemporaryFolder('hence-verify-', async (temporary) => {
    // Copied before the log is read, so that the log is never behind them.
    const states = options.history === false ? undefined : await copyStates(data, temporary, flaws)
    const views = states === undefined ? [] : await copyStoredViews(data, temporary, flaws)
    const taken = await snapshotOrFlaw(data, flaws)
    const read = { logId: null as string | null, records: 0, bytes: 0, heads: 0 }
    let history: VerifiedHistory = {
      checked: false,
      reason: states ? 'the log is damaged' : 'it was not asked for',
    }
    if (taken !== undefined) {
      const { snapshot, ends } = taken
      read.logId = snapshot.id
      const check = signed.keys && new HeadCheck(snapshot.id, signed.keys)
      for (const [source, head] of signed.heads) {
        const wrong = check!.add(head, source)
        if (wrong !== undefined) flaws.push({ code: 'head-mismatch', message: wrong, file: source })
      }
      const step = beginStep(options, 'verify', 'records', recordsIn(snapshot))
      const verified = await verifyLog(snapshot, { heads: check, inUse, progress: step })
      read.records = verified.records
      read.bytes = verified.bytes
      read.heads = check?.count ?? 0
      flaws.push(...verified.flaws)
      if (states !== undefined && verified.isWhole) {
        const log = logOfSnapshot(snapshot, ends)
        const derived = beginStep(options, 'derive', 'records', recordsToDerive(snapshot, states))
        history = await verifyHistory({ data, log, states, views, temporary, flaws, derived }).catch(
          (error) => {
            signal?.throwIfAborted()
            flaws.push(flawOf(error))
            return { checked: false as const, reason: 'reading failed, as reported above' }
          },
        )
      }
    }
    // The reason of an abort may be a HenceError, which was taken for a flaw above.
    signal?.throwIfAborted()
    return { directory: resolve(data), ok: flaws.length === 0, ...read, history, flaws }
  })
}

/** Each state is brought to the end of the log, and derived a second time from its beginning. */
function recordsToDerive(snapshot: LogSnapshot, states: readonly CopiedState[]): number {
  const records = recordsIn(snapshot)
  return states.reduce((sum, { positions }) => sum + 2 * records - recordsBefore(positions), 0)
}

async function snapshotOrFlaw(data: string, flaws: Flaw[]): Promise<ConsistentSnapshot | undefined> {
  try {
    return await snapshotConsistently(data)
  } catch (error) {
    if (error instanceof HenceError && ['no-log', 'copy-unfinished'].includes(error.code)) throw error
    flaws.push(flawOf(error))
    return undefined
  }
}

async function gatherHeads(
  { data, heads: given = [], key }: VerifyOptions,
  flaws: Flaw[],
): Promise<{
  readonly heads: readonly (readonly [source: string, head: SignedHead])[]
  readonly keys: readonly KeyObject[] | undefined
}> {
  const folder = join(data, 'audit')
  const stored = join(folder, 'heads.ndjson')
  const heads: [source: string, head: SignedHead][] = []
  for (const file of (await fileExists(stored)) ? [stored, ...given] : given) {
    const found = await headsIn(file)
    // A file that holds no head cannot confirm anything: reading it as one head throws `head-invalid`.
    if (found.length === 0 && file !== stored) parseHead(await readText(file))
    for (const head of found) heads.push([file, head])
  }
  if (heads.length === 0) return { heads, keys: undefined }
  const keys = key === undefined ? await publicKeysIn(folder) : [key].flat()
  // Without any key the missing file is the error.
  if (keys.length === 0) keys.push(readPublicKey(await readText(join(folder, publicKeyName))))
  const rehearsal = join(folder, rehearsalName)
  const line = await readTextIfThere(rehearsal)
  const signed = line === undefined ? undefined : readRehearsal(keys, line)
  if (signed !== undefined) heads.push([rehearsal, signed.head])
  else if (line !== undefined)
    flaws.push({
      code: 'head-mismatch',
      message: `${rehearsal} is not signed with the key of this log. Remove it, and find out who wrote it.`,
      file: rehearsal,
    })
  return { heads, keys }
}

async function headsIn(file: string): Promise<readonly SignedHead[]> {
  try {
    return await someHeads(file)
  } catch (error) {
    if (error instanceof HenceError) throw error
    throw fileUnreadable(file, error)
  }
}
