import { copyFile, mkdir, open, readdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { assert } from '../assert.ts'
import { headLine } from '../audit/head.ts'
import { HeadCheck } from '../audit/head-check.ts'
import { readHeads, someHeads } from '../audit/head-file.ts'
import { halvesIn, isPublicKey, publicKeysIn } from '../audit/signing-key.ts'
import { type Flaw, verifyLog } from '../audit/verify.ts'
import { noState } from '../engine/state-copy.ts'
import { ifThere } from '../file-failure.ts'
import { endsRightAfter } from '../log/consistent-cut.ts'
import { findControls } from '../log/controls.ts'
import { copyLog } from '../log/file-log/copy.ts'
import { makeDirectories, realDisk } from '../log/file-log/disk.ts'
import { type LogSnapshot, snapshotLog } from '../log/file-log/snapshot.ts'
import type { Position } from '../log/log.ts'
import { recordsBefore } from '../log/partitions.ts'
import { readManifest, writeManifest } from '../reprocess/manifest.ts'
import { copyLmdbStore } from '../state/lmdb-check.ts'
import { checkEmpty } from '../storage/empty-directory.ts'
import { copyNote, wrongIn } from '../storage/layout.ts'
import { stateFolder } from '../storage/states.ts'
import { dataUnusable, keep, kept } from '../storage/storage.ts'
import { fileExists, readTextIfThere } from '../storage/text-file.ts'
import { checkPromotions } from './check-promotions.ts'
import { readCheckpoint } from './checkpoints.ts'
import { recordsIn, snapshotConsistently } from './data-snapshot.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'

export interface BackupOptions extends LongWork {
  /** The data directory. A process may have it open. */
  readonly data: string
  /** The directory that the copy goes to: new or empty. */
  readonly to: string
}

export interface RestoreOptions extends LongWork {
  /** The backup, or another data directory. */
  readonly from: string
  /** The data directory to make: new or empty. */
  readonly to: string
  /** Leaves out what has a later log time, in milliseconds since 1970, and signed heads that cover it. */
  readonly until?: number | undefined
  /**
   * The last records to restore, at most one a partition. Other partitions keep what was durable when the
   * latest of these records was. An event whose cause is left out is left out too, with all that follows it
   * in its partition.
   */
  readonly at?: readonly Position[] | undefined
}

/** The result of `backup` and `restore`. */
export interface Copied {
  /** Where the copy is. */
  readonly directory: string
  /** Whether there are no flaws. */
  readonly ok: boolean
  readonly logId: string
  readonly records: number
  /** By partition: the offset behind its last record. */
  readonly ends: readonly number[]
  /** The parts of the copy that are not what was written or signed. */
  readonly flaws: readonly Flaw[]
  /** Whether the log has signed heads and the copy lacks the key that signs more. */
  readonly needsKey: boolean
}

/**
 * Copies a data directory without its derived state and without the signing key (the log, code, corrections
 * of promotions, API keys, signed heads and the public key), then reads the copy back and checks it. The copy
 * holds all that was acknowledged before the call, and no event without its cause. If it fails or is aborted,
 * it removes what it has written; if its process is killed, the same call goes on where it stopped.
 * @throws HenceError `no-log`, `folder-not-empty` (change), `copy-unfinished`, `log-damaged`, `data-unusable`
 *   (operator), `log-read-failed` (retry)
 */
export const backup = ({ data, to, ...work }: BackupOptions): Promise<Copied> => copyData(data, to, {}, work)

/**
 * Makes a data directory out of a backup or another data directory: all of it, as it was at a log time, or
 * right after some records. The next start derives the tables. Otherwise like `backup`.
 * @throws HenceError `no-log`, `folder-not-empty` (change), `token-unknown` (change) for a position in `at`
 *   without a record, `copy-unfinished`, `log-damaged`, `data-unusable` (operator), `log-read-failed` (retry)
 */
export function restore({ from, to, until, at, ...work }: RestoreOptions): Promise<Copied> {
  return copyData(from, to, { until, at }, work)
}

/**
 * Copies the derived state of a data directory as its last checkpoint left it, for a standby that begins with
 * it: see the option `state` of an engine. A process may have the directory open.
 * @returns how many records it was derived from
 */
export async function backupState({ data, to }: BackupOptions): Promise<{ records: number }> {
  await checkEmpty(to, [])
  const { live } = await readManifest((name) => kept(data, name))
  const [from, folder] = [stateFolder(data, live), stateFolder(to, live)]
  if (!(await fileExists(join(from, 'data.mdb')))) throw noState(data)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await copyLmdbStore(from, folder)
    const saved = await readCheckpoint(folder)
    if (saved === undefined) throw noState(data)
    // It says that the copy is whole.
    await writeManifest(
      { keep: (...named) => keep(realDisk, to, ...named), kept: (name) => kept(to, name) },
      { live },
    )
    return { records: recordsBefore(saved.positions) }
  } catch (error) {
    await removeCopied(to, ['state'])
    throw error instanceof Error && 'syscall' in error ? dataUnusable(to, error) : error
  }
}

/** The entries of a data directory that a copy may have. */
const copiedNames = ['log', 'code', 'promotions', 'keys.json', 'audit']

async function copyData(
  from: string,
  to: string,
  { until, at }: Pick<RestoreOptions, 'until' | 'at'>,
  work: LongWork,
): Promise<Copied> {
  // A file in the place of the folder of code is no reason for a copy without code.
  // Some files are not copied: a backup may run as a user who may not read them.
  const wrong = (await wrongIn(from)).find(({ code }) => code !== 'file-unusable')
  if (wrong !== undefined) throw wrong
  const { snapshot, ends } = await snapshotConsistently(from)
  const log = logOfSnapshot(snapshot, ends)
  const note = join(to, copyNote)
  const wanted = JSON.stringify({ logId: snapshot.id, until, at })
  // Nothing was copied before the whole note was written.
  const goesOn = wanted.startsWith((await readTextIfThere(note)) ?? '?')
  await checkEmpty(to, goesOn ? [copyNote, ...copiedNames] : [])
  const last = at && new Map(at.map(({ partition, offset }) => [partition, offset]))
  const cut = last === undefined ? ends : await endsRightAfter(log, last)
  try {
    if (goesOn) await removeCopied(to, copiedNames.slice(1))
    await makeDirectories(realDisk, resolve(to), 'directory of a copy')
    await writeFile(note, wanted, { mode: 0o600, flush: true })
    await realDisk.syncDirectory(to, 'note of a copy')
    const copied = beginStep(work, 'copy', 'bytes', bytesIn(snapshot))
    copied(0)
    await copyLog(snapshot, to, { copied, ...(until !== undefined && { until }), ...(cut && { ends: cut }) })
    await copyFolder(join(from, 'code'), join(to, 'code'), (name) => name.endsWith('.js'))
    // A promotion writes its corrections first, so every promotion in the snapshot has them.
    await copyFolder(join(from, 'promotions'), join(to, 'promotions'), (name) => /\.(nd)?json$/.test(name))
    await copyFolder(from, to, (name) => name === 'keys.json')
    // With the signing key anybody could sign another history, so it is copied nowhere.
    await copyFolder(join(from, 'audit'), join(to, 'audit'), isPublicKey)
    const copy = await verifyCopy(from, to, snapshot.id, work)
    await realDisk.syncDirectory(to, 'copied names')
    await rm(note)
    await realDisk.syncDirectory(to, 'note of a copy')
    return copy
  } catch (error) {
    // A part of a copy must not be taken for a backup, nor stand in the way of the next try.
    await removeCopied(to, [...copiedNames, copyNote])
    throw error instanceof Error && 'syscall' in error ? dataUnusable(to, error) : error
  }
}

async function removeCopied(to: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(to, name), { recursive: true, force: true })
}

async function verifyCopy(from: string, to: string, logId: string, work: LongWork): Promise<Copied> {
  const copy = await snapshotLog(to)
  assert(copy?.id === logId, 'a copy has the id of its log', copy?.id, logId)
  const ends = copy.partitions.map(({ findings }) => findings?.tip.offset ?? 0)
  await copyHeads(from, to, ends)
  const check = await headCheck(to, copy.id)
  const progress = beginStep(work, 'verify', 'records', recordsIn(copy))
  const verified = await verifyLog(copy, { heads: check, inUse: false, progress })
  const flaws = [...verified.flaws]
  // The reason of an abort may be a HenceError, which was taken for a flaw above.
  work.signal?.throwIfAborted()
  if (flaws.length === 0) {
    const log = logOfSnapshot(copy)
    const { facts } = await findControls(log)
    flaws.push(...(await checkPromotions(to, log, facts)))
  }
  const key = await halvesIn(join(to, 'audit'))
  return {
    directory: to,
    ok: flaws.length === 0,
    logId: copy.id,
    records: verified.records,
    ends,
    flaws,
    needsKey: key.public && !key.own,
  }
}

function bytesIn({ partitions }: LogSnapshot): number {
  let bytes = 0
  for (const { findings } of partitions) {
    if (findings === undefined) continue
    for (const { size } of findings.segments.slice(0, -1)) bytes += size
    bytes += findings.tip.position
  }
  return bytes
}

async function copyFolder(from: string, to: string, wanted: (name: string) => boolean): Promise<void> {
  const names = ((await ifThere(readdir(from))) ?? []).filter(wanted)
  if (names.length > 0) await mkdir(to, { recursive: true, mode: 0o700 })
  for (const name of names) {
    await copyFile(join(from, name), join(to, name))
    const file = await open(join(to, name), 'r+')
    try {
      // Whatever the mode of the source was.
      await file.chmod(0o600)
      await file.sync()
    } finally {
      // Node ends a process that forgets a handle.
      await file.close()
    }
  }
  if (names.length > 0) await realDisk.syncDirectory(to, 'copied names')
}

/** Copies the heads that cover no more than the copy holds. One that was signed meanwhile may cover more. */
async function copyHeads(from: string, to: string, ends: readonly number[]): Promise<void> {
  const source = headsIn(from)
  if (!(await fileExists(source))) return
  const file = await open(headsIn(to), 'wx', 0o600)
  try {
    for await (const head of readHeads(source)) {
      if (head.partitions.some(({ size }, partition) => size > (ends[partition] ?? 0))) break
      await file.write(`${headLine(head)}\n`)
    }
    await file.sync()
  } finally {
    await file.close()
  }
  await realDisk.syncDirectory(join(to, 'audit'), 'copied heads')
}

async function headCheck(data: string, logId: string): Promise<HeadCheck | undefined> {
  const heads = headsIn(data)
  if (!(await fileExists(heads))) return undefined
  const check = new HeadCheck(logId, await publicKeysIn(join(data, 'audit')))
  for (const head of await someHeads(heads)) check.add(head, heads)
  return check
}

const headsIn = (data: string): string => join(data, 'audit', 'heads.ndjson')
