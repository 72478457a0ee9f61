import { stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { checkHeads, hasHeads } from '../audit/head-file.ts'
import { readRehearsal } from '../audit/rehearsed.ts'
import { rehearsalName } from '../audit/scrubber.ts'
import { publicKeysIn, readSigningKey } from '../audit/signing-key.ts'
import { failedKey, HenceError } from '../failure.ts'
import { fileFailure } from '../file-failure.ts'
import { damageLocation } from '../log/file-log/damage.ts'
import { planTruncation, type Truncation } from '../log/file-log/damage-truncation.ts'
import {
  type LogSnapshot,
  type PartitionSnapshot,
  readSnapshot,
  snapshotLog,
} from '../log/file-log/snapshot.ts'
import { recordsBefore } from '../log/partitions.ts'
import { decodeRecord, type LogRecord, type Ruling } from '../log/record.ts'
import { counted } from '../plain-text.ts'
import { type LockHolder, lockHolderOf } from '../storage/directory-lock.ts'
import { isHeld } from '../storage/file-lock.ts'
import { missingLog, wrongIn } from '../storage/layout.ts'
import { warningOfAccess } from '../storage/permissions.ts'
import { readSuspect } from '../storage/run-file.ts'
import { derivingLock, stillDeriving } from '../storage/storage.ts'
import { readTextIfThere } from '../storage/text-file.ts'
import { recordsIn } from './data-snapshot.ts'
import { examineState, type UselessState } from './examine-state.ts'
import type { AddFinding, Finding, Repair } from './finding.ts'
import { beginStep, type LongWork } from './progress.ts'

export interface DoctorOptions extends LongWork {
  /** The data directory. A process may have it open. */
  readonly data: string
}

/** The result of `doctor`. */
export interface Diagnosis {
  /** The data directory, as an absolute path. */
  readonly directory: string
  /** Whether no finding is `wrong`, so that a start succeeds. */
  readonly ok: boolean
  /** Whether a process has the directory open. Then nothing can be repaired. */
  readonly inUse: boolean
  readonly findings: readonly Finding[]
  /** The repairs that `repair` can do, in the order in which they must be done. */
  readonly repairs: readonly Repair[]
}

/**
 * Examines what a start would find in a data directory: who has it open, the free disk space, every byte of
 * the log, the state and code of each generation, and the corrections of promotions. It changes nothing.
 * @throws HenceError `log-read-failed` (retry). Damage is no error: it is in `findings`
 */
export async function doctor(options: DoctorOptions): Promise<Diagnosis> {
  const { data } = options
  const findings: Finding[] = []
  const add: AddFinding = (level, code, message, more = {}) =>
    findings.push({ level, code, message, ...more })
  const found = await examine(data, add, options)
  // The reason of an abort may be a HenceError, which was taken for a finding above.
  options.signal?.throwIfAborted()
  const ok = findings.every(({ level }) => level !== 'wrong')
  const repairs = found === undefined ? [] : repairsFor(found)
  return { directory: resolve(data), ok, inUse: found?.inUse ?? false, findings, repairs }
}

interface Examined {
  readonly inUse: boolean
  readonly truncations: Truncation[]
  readonly useless: UselessState[]
  hasTornTail: boolean
}

/** @returns undefined when there is no directory */
async function examine(data: string, add: AddFinding, work: LongWork): Promise<Examined | undefined> {
  const directory = await stat(data).catch(() => undefined)
  if (!directory?.isDirectory()) {
    add('wrong', 'no-log', `The directory ${resolve(data)} does not exist.`, { todo: 'Give another one.' })
    return undefined
  }
  const wrong = await wrongIn(data)
  for (const { code, message } of wrong) add('wrong', code, message)
  if (wrong.length > 0) return undefined
  let holder: LockHolder | 'unknown' | undefined
  try {
    holder = await lockHolderOf(data)
    if (holder === undefined && isHeld(join(data, derivingLock)))
      add('warning', 'data-in-use', stillDeriving(data).message)
  } catch (error) {
    if (!(error instanceof HenceError)) throw error
    add('wrong', error.code, error.message)
    return undefined
  }
  addHolder(holder, add)
  await addSpace(data, add)
  if (holder === undefined) addSuspect(data, add)
  const access = await warningOfAccess(data)
  if (access) add('warning', access.code, access.message)
  const inUse = holder !== undefined
  let snapshot: LogSnapshot | undefined
  try {
    const missing = await missingLog(data)
    if (missing !== undefined) throw missing
    snapshot = await snapshotLog(data)
    if (snapshot === undefined) add('fine', 'no-log', 'There is no log yet. The next start makes one.')
  } catch (error) {
    addError(error, add)
  }
  const examined: Examined = { inUse, truncations: [], useless: [], hasTornTail: false }
  if (snapshot === undefined) return examined
  const read = beginStep(work, 'read', 'records', recordsIn(snapshot))
  const ends: (number | undefined)[] = []
  for (const each of snapshot.partitions) ends.push(await examinePartition(each, examined, add, read))
  await addAudit(join(data, 'audit'), add)
  await examineState({ data, snapshot, ends, add, useless: examined.useless })
  return examined
}

function repairsFor({ inUse, truncations, useless, hasTornTail }: Examined): Repair[] {
  if (inUse) return []
  const repairs: Repair[] = truncations.map((truncation) => {
    const { partition, from, file, byte } = truncation
    return { kind: 'end-partition', partition, offset: from, file, byte, loss: lossOf(truncation) }
  })
  const whole =
    truncations.length > 0
      ? { folder: 'state', reason: 'It may have been derived from records that are lost.' }
      : useless.find(({ folder }) => folder === 'state')
  // Where all state is set aside, that of single generations goes with it.
  for (const each of whole ? [whole] : useless) repairs.push({ kind: 'set-state-aside', ...each })
  if (hasTornTail) repairs.push({ kind: 'cut-torn-tail' })
  return repairs
}

function addHolder(holder: LockHolder | 'unknown' | undefined, add: AddFinding): void {
  if (holder === undefined) add('fine', 'not-in-use', 'No process has the directory open.')
  else if (holder === 'unknown') add('fine', 'in-use', 'A process has the directory open.')
  else {
    const { pid, host, since } = holder
    add('fine', 'in-use', `Process ${pid} on ${host} has had the directory open since ${since}.`)
  }
}

/** A new segment and a checkpoint need room. With less than this, the next write may fail. */
const spaceMinMebibytes = 256

async function addSpace(data: string, add: AddFinding): Promise<void> {
  const { bavail, bsize } = await statfs(data)
  const mebibytes = Math.floor((bavail * bsize) / 1024 / 1024)
  if (mebibytes >= spaceMinMebibytes) add('fine', 'disk-space', `${mebibytes} MiB of the disk are free.`)
  else {
    const todo = 'Make room: an engine that cannot write refuses all requests.'
    add('warning', 'disk-space', `Only ${mebibytes} MiB of the disk are free.`, { todo })
  }
}

/** The files of an audit. Only a start with `--audit` needs them, and a backup has no key. */
async function addAudit(folder: string, add: AddFinding): Promise<void> {
  try {
    await readSigningKey(folder, await hasHeads(folder))
    await checkHeads(folder)
    await addRehearsal(folder, add)
  } catch (error) {
    const known = error instanceof HenceError ? error : fileFailure(error)
    if (known === undefined) throw error
    add(known.code === 'signing-key-missing' ? 'warning' : 'wrong', known.code, known.message)
  }
}

async function addRehearsal(folder: string, add: AddFinding): Promise<void> {
  const line = await readTextIfThere(join(folder, rehearsalName))
  if (line === undefined) return
  const rehearsed = readRehearsal(await publicKeysIn(folder), line)
  if (rehearsed === undefined)
    add('warning', 'rehearsed', `${rehearsalName} is not signed with the key of this log.`)
  else {
    const { time, positions, generation } = rehearsed
    const when = new Date(time).toISOString()
    const records = recordsBefore(positions)
    const message = `At ${when} the log, derived again from ${records} records, gave generation ${generation} as it was.`
    add('fine', 'rehearsed', message)
  }
}

function addRuling(
  partition: number,
  { offset, type, key, version, message }: Ruling,
  add: AddFinding,
): void {
  const record = `Record ${partition}:${offset} (${type} ${failedKey(key)})`
  const todo = 'If that code is in force, mend it and promote it: the record is then derived, and corrected.'
  const ruled = `${record} counts as failed for version ${version.slice(0, 12)} of the code: ${message}`
  add('warning', 'derivation-ruled', ruled, { todo })
}

function addSuspect(data: string, add: AddFinding): void {
  const suspect = readSuspect(data)
  if (suspect === 'none' || suspect === undefined) return
  const { partition, offset, begun } = suspect
  const times = begun === 1 ? 'A process' : `${begun} processes in a row`
  const todo =
    'Start again: after two deaths the record is derived in a process of its own, and ruled on if it ends that ' +
    `too. By hand: \`hence rule ${partition}:${offset}\`.`
  add('warning', 'derivation-suspected', `${times} died at record ${partition}:${offset}.`, { todo })
}

/** @returns the offset at which the partition ends; undefined where it is damaged */
async function examinePartition(
  snapshot: PartitionSnapshot,
  examined: Examined,
  add: AddFinding,
  read: (records: number) => void,
): Promise<number | undefined> {
  const { partition } = snapshot.files.lineage
  const found = await readToDamage(snapshot, read, (record) => {
    if (record.kind === 'ruling') addRuling(partition, record.ruling, add)
  })
  if ('error' in found) {
    const { error, truncation } = found
    if (truncation === undefined) addError(error, add)
    else {
      examined.truncations.push(truncation)
      const { code, message } = error
      add('wrong', code, message, { ...damageLocation(error), todo: costOf(truncation) })
    }
    return undefined
  }
  const { end } = found
  const { tip, tornEnd, segments } = snapshot.findings!
  const whole = `${counted(end, 'record')} in ${counted(segments.length, 'segment')}, whole.`
  add('fine', 'partition', `Partition ${partition}: ${whole}`)
  if (tornEnd === tip.position || examined.inUse) return end
  examined.hasTornTail = true
  const file = segments.at(-1)!.path
  const torn =
    `An unfinished write of ${tornEnd - tip.position} bytes is at the end of ${file}, byte ${tip.position}. ` +
    'It was never acknowledged. The next start copies it aside and cuts it off.'
  add('mended', 'log-torn-tail', torn, { file, byte: tip.position })
  return end
}

/** Reads a partition up to its first error: returns its end, or the error and how to end it before that. */
export async function readToDamage(
  snapshot: PartitionSnapshot,
  read: (records: number) => void,
  see: (record: LogRecord) => void = () => {},
): Promise<
  { readonly end: number } | { readonly error: HenceError; readonly truncation: Truncation | undefined }
> {
  let end = 0
  try {
    for await (const { offset, records } of readSnapshot(snapshot)) {
      for (const bytes of records) see(decodeRecord(bytes))
      end = offset + records.length
      read(records.length)
    }
    return { end }
  } catch (error) {
    if (!(error instanceof HenceError)) throw error
    const location = damageLocation(error)
    return { error, truncation: location && (await planTruncation(snapshot.files, location)) }
  }
}

function costOf(truncation: Truncation): string {
  return (
    'Put the file back from a copy of the data directory. If there is none, `hence doctor --repair` can ' +
    `end the partition before the damage and set aside what follows. That loses ${lossOf(truncation)}.`
  )
}

function lossOf({ partition, from, to, later }: Truncation): string {
  const files = later.length === 0 ? '' : `, with ${counted(later.length, 'later segment')}`
  if (to === from) {
    return `all of partition ${partition} from offset ${from} on (nothing behind the damage says how much)${files}`
  }
  const records =
    to - from === 1 ? `the record at offset ${from}` : `the records at offsets ${from} to ${to - 1}`
  return `${records} of partition ${partition}, and any that followed them without a trace${files}`
}

function addError(error: unknown, add: AddFinding): void {
  const known = error instanceof HenceError ? error : fileFailure(error)
  if (known === undefined) throw error
  const todo = known === error ? { todo: 'Put the file back from a copy of the data directory.' } : {}
  add('wrong', known.code, known.message, { ...damageLocation(known), ...todo })
}
