import { rename } from 'node:fs/promises'
import { resolve } from 'node:path'
import { systemClock } from '../clock.ts'
import { changeError } from '../failure.ts'
import { truncatePartition } from '../log/file-log/damage-truncation.ts'
import { openFileLog } from '../log/file-log/file-log.ts'
import { snapshotLog } from '../log/file-log/snapshot.ts'
import type { Reporter } from '../report.ts'
import { fileExists } from '../storage/text-file.ts'
import { type Diagnosis, doctor, readToDamage } from './doctor.ts'
import { takeDirectory } from './exclusive.ts'
import type { Repair } from './finding.ts'
import type { LongWork } from './progress.ts'

export interface RepairOptions extends LongWork {
  /** The data directory. No process may have it open. */
  readonly data: string
  /** Repairs of a diagnosis, in order. `end-partition` loses acknowledged records: have a person agree. */
  readonly repairs: readonly Repair[]
  /** Called with what was done, and where the copies are. Default: nothing. */
  readonly report?: Reporter | undefined
}

/**
 * Repairs a data directory. It keeps a copy of all that it cuts off, and renames what it sets aside.
 * @returns the diagnosis after the repairs
 * @throws HenceError `data-in-use` (retry); `repair-outdated` (change) when the damage is not what the
 *   diagnosis found
 */
export async function repair(options: RepairOptions): Promise<Diagnosis> {
  const { data, repairs, report = () => {}, progress, signal } = options
  const lock = await takeDirectory(data, 'repaired')
  try {
    for (const each of repairs) {
      signal?.throwIfAborted()
      if (each.kind === 'end-partition') await endPartition(data, each, report, signal)
      else if (each.kind === 'set-state-aside') await setAside(data, each, report)
      else await cutTornTails(data, report)
    }
  } finally {
    await lock.release()
  }
  return doctor({ data, progress, signal })
}

/** Reads the partition again: meanwhile its file may have been put back. */
async function endPartition(
  data: string,
  { partition, offset }: Extract<Repair, { kind: 'end-partition' }>,
  report: Reporter,
  signal: AbortSignal | undefined,
): Promise<void> {
  const snapshot = (await snapshotLog(data))?.partitions[partition]
  const found = snapshot && (await readToDamage(snapshot, () => signal?.throwIfAborted()))
  signal?.throwIfAborted()
  const truncation = found && 'truncation' in found ? found.truncation : undefined
  if (snapshot === undefined || truncation?.from !== offset) throw outdated(data, partition)
  const copies = await truncatePartition(snapshot.files, truncation)
  report({
    level: 'warning',
    code: 'partition-ended',
    message:
      `Partition ${partition} now ends at offset ${offset}. The part that was cut off is in ` +
      `${copies.join(', ')}.`,
  })
}

async function setAside(
  data: string,
  { folder }: Extract<Repair, { kind: 'set-state-aside' }>,
  report: Reporter,
): Promise<void> {
  const path = resolve(data, folder)
  let number = 1
  while (await fileExists(`${path}.aside-${number}`)) number++
  await rename(path, `${path}.aside-${number}`)
  report({
    level: 'warning',
    code: 'state-set-aside',
    message: `The old state is in ${path}.aside-${number}. The next start derives it again from the log.`,
  })
}

/** Opens the log as a start does. */
async function cutTornTails(data: string, report: Reporter): Promise<void> {
  const log = await openFileLog({ directory: data, clock: systemClock, report })
  await log.close()
}

const outdated = (data: string, partition: number) =>
  changeError(
    'repair-outdated',
    `Partition ${partition} of the log in ${resolve(data)} is not damaged where it was when it was examined. ` +
      'Nothing more was repaired: examine it again.',
  )
