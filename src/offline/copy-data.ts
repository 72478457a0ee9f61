import { copyFile, mkdir, open, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { headLine } from '../audit/head.ts'
import { HeadCheck } from '../audit/head-check.ts'
import { readHeads, someHeads } from '../audit/head-file.ts'
import { publicKeyName, readPublicKey } from '../audit/signing-key.ts'
import { type Flaw, verifyPartition } from '../audit/verify.ts'
import { HenceError } from '../failure.ts'
import { endsRightAfter } from '../log/consistent-cut.ts'
import { findControls } from '../log/controls.ts'
import { copyLog } from '../log/file-log/copy.ts'
import { snapshotConsistently, snapshotData } from './data-snapshot.ts'
import { readInput } from './input-file.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { checkPromotions } from './promotions.ts'

/** What came to stand in the copy. */
export interface Copied {
  readonly logId: string
  readonly records: number
  /** By partition: the offset behind its last record. */
  readonly ends: readonly number[]
  /** What is not as it was written or signed. */
  readonly flaws: readonly Flaw[]
}

/** How much of the log is copied: up to a log time, or to right after some records, given by partition and offset. */
export interface Moment {
  readonly until?: number
  readonly after?: ReadonlyMap<number, number>
}

/**
 * Copies what is not derived of a data directory (log, code, corrections, keys, signed heads) into a new one, and verifies the copy. A
 * process may have the directory open.
 * @param moment what came later is left out, and signed heads that cover it; see `endsRightAfter` for what that is
 * @throws HenceError `no-log`, `folder-not-empty`, `token-unknown` (change), and what reading the log throws
 */
export async function copyData(from: string, to: string, moment: Moment = {}): Promise<Copied> {
  const { snapshot, ends: steady } = await snapshotConsistently(from)
  const there = await readdir(to).catch(() => [])
  if (there.length > 0) throw notEmpty(to)
  const { until, after } = moment
  const cut = after === undefined ? steady : await endsRightAfter(logOfSnapshot(snapshot, steady), after)
  await copyLog(snapshot, to, { ...(until !== undefined && { until }), ...(cut && { ends: cut }) })
  await copyFolder(join(from, 'code'), join(to, 'code'), (name) => name.endsWith('.js'))
  // A promotion writes its corrections before its control record, so every promotion in the snapshot has them.
  await copyFolder(join(from, 'promotions'), join(to, 'promotions'), (name) => /\.(nd)?json$/.test(name))
  await copyFolder(from, to, (name) => name === 'keys.json')
  await copyFolder(join(from, 'audit'), join(to, 'audit'), (name) => name.endsWith('.pem'))
  const copy = await snapshotData(to)
  const ends = copy.partitions.map(({ findings }) => findings?.tip.offset ?? 0)
  await copyHeads(from, to, ends)

  const check = await headCheck(to, copy.id)
  const flaws: Flaw[] = []
  let records = 0
  for (const each of copy.partitions) {
    const verified = await verifyPartition(each, { heads: check, inUse: false })
    records += verified.records
    flaws.push(...verified.flaws)
  }
  for (const flaw of check?.flaws ?? []) flaws.push({ code: 'head-mismatch', ...flaw })
  if (flaws.length === 0) {
    const log = logOfSnapshot(copy)
    const { facts } = await findControls(
      log,
      ends.map(() => 0),
    )
    flaws.push(...(await checkPromotions(to, log, facts)))
  }
  return { logId: copy.id, records, ends, flaws }
}

async function copyFolder(from: string, to: string, wanted: (name: string) => boolean): Promise<void> {
  const names = (await readdir(from).catch(() => [])).filter(wanted)
  if (names.length > 0) await mkdir(to, { recursive: true })
  for (const name of names) {
    // It takes over who may read the file, which matters for keys.
    await copyFile(join(from, name), join(to, name))
    const file = await open(join(to, name), 'r+')
    await file.sync()
    await file.close()
  }
}

/** Heads that cover no more than the copy has; one that was signed meanwhile may cover more. */
async function copyHeads(from: string, to: string, ends: readonly number[]): Promise<void> {
  const [source, target] = [from, to].map((data) => join(data, 'audit', 'heads.ndjson')) as [string, string]
  if (!(await isThere(source))) return
  const file = await open(target, 'wx', 0o600)
  try {
    for await (const head of readHeads(source)) {
      if (head.partitions.some(({ size }, partition) => size > (ends[partition] ?? 0))) break
      await file.write(`${headLine(head)}\n`)
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function headCheck(data: string, logId: string): Promise<HeadCheck | undefined> {
  const heads = join(data, 'audit', 'heads.ndjson')
  if (!(await isThere(heads))) return undefined
  const check = new HeadCheck(logId, readPublicKey(await readInput(join(data, 'audit', publicKeyName))))
  for (const head of await someHeads(heads)) check.add(head, heads)
  return check
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

function notEmpty(directory: string): HenceError {
  return new HenceError(
    'folder-not-empty',
    'change',
    `${resolve(directory)} is not empty, and nothing was written into it. Give a new one.`,
  )
}
