import { readdir, readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { systemClock } from '../clock.ts'
import { changeError } from '../failure.ts'
import { ifThere } from '../file-failure.ts'
import type { CarriedBatch, Carrier } from '../log/carrier.ts'
import { findControls } from '../log/controls.ts'
import { hashOf, previousHashOf } from '../log/file-log/batch.ts'
import { type KnownBatch, notePath, readNote, writeNote } from '../log/file-log/carrier-note.ts'
import { realDisk } from '../log/file-log/disk.ts'
import { copying, logDiffers, openFileLog } from '../log/file-log/file-log.ts'
import { readMeta } from '../log/file-log/meta.ts'
import { type PartitionSnapshot, rawBatches } from '../log/file-log/snapshot.ts'
import { checkCorrectionFiles } from '../reprocess/correction-files.ts'
import { lockDirectory, lockHolderOf } from '../storage/directory-lock.ts'
import { checkEmpty } from '../storage/empty-directory.ts'
import { codeName, keep, kept } from '../storage/storage.ts'
import { recordsIn, snapshotData } from './data-snapshot.ts'
import { takeDirectory } from './exclusive.ts'
import { logOfSnapshot } from './log-of-snapshot.ts'
import { beginStep, type LongWork } from './progress.ts'

export interface RefreshOptions extends LongWork {
  /** The directory of the copy; a new one is filled. */
  readonly data: string
  /** The carrier that has the log. */
  readonly log: Carrier
}

/**
 * Brings the copy of a log in a directory up to date, with the code that derives it. A process that has the
 * directory open does so itself, and then nothing is done here; nor to a log of its own, such as a backup.
 * The carrier is closed.
 * @throws HenceError `log-differs` (change) for a log of its own that is another one
 */
export async function refresh({ data, log: carrier, ...work }: RefreshOptions): Promise<void> {
  try {
    const folder = join(data, 'log')
    const isCopy = (await readNote(realDisk, folder)) !== undefined
    const own = isCopy ? undefined : await readMeta(realDisk, folder)
    if (own !== undefined) {
      const facts = await carrier.facts()
      if (facts?.logId !== own.logId) throw logDiffers(carrier, facts, data, own)
    } else if ((await lockHolderOf(data)) === undefined) await fill(data, carrier, work)
  } finally {
    await carrier.close()
  }
}

/** Returns the carrier that a directory is a copy of, and log time at its end; undefined if it is none. */
export async function copyIn(data: string): Promise<{ carrier: string; at: number } | undefined> {
  const note = await readNote(realDisk, join(data, 'log'))
  if (note === undefined) return undefined
  const { partitions } = await snapshotData(data)
  return { carrier: note.carrier, at: Math.max(...partitions.map(({ findings }) => findings?.tip.time ?? 0)) }
}

export interface CopyLogOptions extends LongWork {
  /** A data directory, or the carrier that has the log. */
  readonly from: string | Carrier
  /** A new data directory, or a carrier without a log, or with the beginning of this one. */
  readonly to: string | Carrier
}

/**
 * Copies a log from a directory into a carrier, or from a carrier into a new directory, with the code that
 * derives it: batch by batch, so that every hash stays. After an interruption the same call goes on. Carriers
 * are closed.
 * @throws HenceError `log-differs`, `no-log`, `folder-not-empty`, `option-invalid` (change), `data-in-use`
 *   (retry), and the errors of the carrier
 */
export async function copyLogTo({ from, to, ...work }: CopyLogOptions): Promise<{ records: number }> {
  try {
    if (typeof from === 'string' && typeof to !== 'string') return await copyOut(from, to, work)
    if (typeof from !== 'string' && typeof to === 'string') {
      await checkEmpty(to)
      await fill(to, from, work)
      // From here on it is a log of its own.
      await rm(notePath(join(to, 'log')))
      await realDisk.syncDirectory(join(to, 'log'), 'copied log')
      return { records: recordsIn(await snapshotData(to)) }
    }
  } finally {
    for (const each of [from, to]) if (typeof each !== 'string') await each.close()
  }
  throw changeError(
    'option-invalid',
    'A log is copied from a directory to a carrier, or from a carrier to a directory. Between two directories, ' +
      'use `hence backup`; between two carriers, copy to a directory first.',
  )
}

async function fill(data: string, carrier: Carrier, work: LongWork): Promise<void> {
  const progress = beginStep(work, 'copy', 'bytes')
  // Without a log nothing is made.
  if ((await carrier.facts()) === undefined)
    throw changeError('no-log', `There is no log in ${carrier.name}.`)
  const counted: Carrier = {
    name: carrier.name,
    batchBytesMax: carrier.batchBytesMax,
    facts: (made) => carrier.facts(made),
    append: (...given) => carrier.append(...given),
    async *read(...given): AsyncGenerator<CarriedBatch> {
      for await (const batch of carrier.read(...given)) {
        yield batch
        progress(batch.bytes.length)
      }
    },
    end: (partition) => carrier.end(partition),
    put: (name, bytes) => carrier.put(name, bytes),
    get: (name) => carrier.get(name),
    close: () => carrier.close(),
  }
  await realDisk.makeDirectory(resolve(data)).catch(() => {})
  const lock = await lockDirectory(data)
  try {
    const log = await openFileLog({
      directory: data,
      carrier: counted,
      follow: true,
      clock: systemClock,
      report: () => {},
    })
    await log.close()
    await fetchKept(data, carrier)
  } finally {
    await lock.release()
  }
}

/** Fetches the code that the log names, and the corrections of its promotions. */
async function fetchKept(data: string, carrier: Carrier): Promise<void> {
  const log = logOfSnapshot(await snapshotData(data))
  const { facts } = await findControls(log)
  const fetch = async (name: string) => {
    const here = await kept(data, name)
    const there = here === undefined ? (await carrier.get(name))?.toString() : undefined
    if (there !== undefined) await keep(realDisk, resolve(data), name, there)
    return here ?? there
  }
  for (const fact of facts) {
    await fetch(codeName(fact.version))
    if (fact.type === 'promotion' && fact.corrections > 0) await checkCorrectionFiles(fetch, fact)
  }
}

async function copyOut(data: string, carrier: Carrier, work: LongWork): Promise<{ records: number }> {
  const snapshot = await snapshotData(data)
  const lock = await takeDirectory(data, 'copied')
  try {
    const { id: logId, partitions } = snapshot
    for (const { damage } of partitions) if (damage !== undefined) throw damage
    const segmentBytes = partitions[0]!.findings!.segments[0]!.size
    const there = await carrier.facts()
    if (there !== undefined && there.logId !== logId) throw differs(data, carrier, `has log ${there.logId}`)
    // A log that is whole there stays open to its writer.
    const isNew = there === undefined || isMarked(await carrier.get(copying))
    await carrier.facts({ logId, partitions: partitions.length, segmentBytes })
    if (isNew) await carrier.put(copying, Buffer.from('copying'))
    for (const folder of ['code', 'promotions'])
      for (const name of (await ifThere(readdir(join(data, folder)))) ?? [])
        await carrier.put(`${folder}/${name}`, await readFile(join(data, folder, name)))
    const progress = beginStep(work, 'copy', 'bytes')
    const known = await Promise.all(
      partitions.map((partition, index) => copyPartition(partition, index, { data, carrier, progress })),
    )
    // From here on only what is in the carrier counts.
    await writeNote(realDisk, join(data, 'log'), { carrier: carrier.name, known })
    if (isNew) await carrier.put(copying, Buffer.alloc(0))
    return { records: recordsIn(snapshot) }
  } finally {
    await lock.release()
  }
}

const isMarked = (note: Buffer | undefined) => note !== undefined && note.length > 0

async function copyPartition(
  partition: PartitionSnapshot,
  index: number,
  { data, carrier, progress }: { data: string; carrier: Carrier; progress: (bytes: number) => void },
): Promise<KnownBatch | undefined> {
  const theirs = carrier.read(index, 0)[Symbol.asyncIterator]()
  let there = await theirs.next()
  let next = 0
  let last: KnownBatch | undefined
  for await (const { bytes, header } of rawBatches(partition)) {
    if (there.done !== true) {
      if (!there.value.bytes.equals(bytes)) throw differs(data, carrier, `differs at position ${next}`)
      next = there.value.position + 1
      there = await theirs.next()
    } else {
      const before = Buffer.from(previousHashOf(bytes, 0))
      const batch = { bytes, before, hash: hashOf(bytes), offset: header.baseOffset }
      if ((await carrier.append(index, batch, next)) !== next)
        throw differs(data, carrier, 'is written by another process')
      next++
    }
    last = { position: next - 1, hash: hashOf(bytes) }
    progress(bytes.length)
  }
  if (there.done !== true) throw differs(data, carrier, `has more records than ${data}`)
  return last
}

const differs = (data: string, carrier: Carrier, what: string) =>
  changeError(
    'log-differs',
    `The log in ${data} cannot be copied: ${carrier.name} ${what}. Nothing of it was overwritten.`,
  )
