import { rename, stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { damageLocation } from '../log/file-log/damage.ts'
import { openFileLog } from '../log/file-log/file-log.ts'
import {
  type LogSnapshot,
  type PartitionSnapshot,
  readSnapshot,
  snapshotLog,
} from '../log/file-log/snapshot.ts'
import { planTruncation, type Truncation, truncatePartition } from '../log/file-log/truncation.ts'
import { decodeRecord } from '../log/record.ts'
import { examineState } from '../offline/examine-state.ts'
import type { Finding, Remedies, Say } from '../offline/finding.ts'
import { type LockHolder, lockDirectory, lockHolderOf, nameOf } from '../storage/directory-lock.ts'
import { command, dataOption, jsonOption, runs } from './command.ts'
import { confirmed } from './terminal/confirm.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, paintError, print, printReport } from './terminal/output.ts'

/** `hence doctor`: what a start would find in a data directory, and what can be done about it. */
export function doctorCommand() {
  return command('doctor', 'tell what a start would find in a data directory, and what to do about it', [
    'hence doctor --data data',
    'hence doctor --data data --json',
    'hence doctor --data data --repair                 does what an ordinary start does, and asks before anything more',
  ])
    .addOption(dataOption().makeOptionMandatory())
    .option('--repair', 'cut off a torn end as a start would; with a confirmation, set damaged parts aside')
    .option('--yes', 'confirm whatever --repair asks; what is set aside is lost to the app')
    .addOption(jsonOption())
    .addHelpText('after', '\nWithout --repair it changes nothing, and it may run beside a running process.')
    .action(
      runs(async (options: DoctorOptions) => {
        const { data, json, repair } = options
        const { findings, remedies, snapshot, holder } = await examine(data)
        if (json) {
          const ok = findings.every(({ level }) => level !== 'wrong')
          await print(JSON.stringify({ directory: resolve(data), ok, findings }))
        } else {
          for (const finding of findings) await print(describe(finding))
        }
        if (!repair) return findings.some(({ level }) => level === 'wrong') ? exitCode.operator : exitCode.ok
        if (holder) {
          throw new HenceError(
            'data-in-use',
            'retry',
            `${resolve(data)} is in use by ${nameOf(holder)}, so nothing was repaired. Stop it first.`,
          )
        }
        return repaired(options, snapshot, remedies)
      }),
    )
}

interface DoctorOptions {
  readonly data: string
  readonly json?: true
  readonly repair?: true
  readonly yes?: true
}

async function examine(data: string) {
  const findings: Finding[] = []
  const remedies: Remedies = { tornTail: false, truncations: [], state: undefined, generations: [] }
  const say = (level: Finding['level'], code: string, message: string, more: Partial<Finding> = {}) => {
    findings.push({ level, code, message, ...more })
  }
  let holder: LockHolder | 'unknown' | undefined
  let snapshot: LogSnapshot | undefined
  const directory = await stat(data).catch(() => undefined)
  if (!directory?.isDirectory()) {
    say('wrong', 'no-log', `The directory ${resolve(data)} does not exist.`, { todo: 'Give another one.' })
    return { findings, remedies, snapshot, holder }
  }
  holder = await lockHolderOf(data)
  if (holder === 'unknown') say('fine', 'in-use', 'A process has the directory open.')
  else if (holder) {
    say(
      'fine',
      'in-use',
      `Process ${holder.pid} on ${holder.host} has had the directory open since ${holder.since}.`,
    )
  } else say('fine', 'not-in-use', 'No process has the directory open.')
  await findSpace(data, say)
  try {
    snapshot = await snapshotLog(data)
  } catch (error) {
    sayError(error, say, 'Put the file back from a copy of the data directory.')
    return { findings, remedies, snapshot, holder }
  }
  if (snapshot === undefined) {
    say('fine', 'no-log', 'There is no log yet; a start makes one.')
    return { findings, remedies, snapshot, holder }
  }
  const ends: (number | undefined)[] = []
  for (const each of snapshot.partitions)
    ends.push(await examinePartition(each, say, remedies, holder !== undefined))
  await examineState(data, snapshot, ends, say, remedies)
  return { findings, remedies, snapshot, holder }
}

async function findSpace(data: string, say: Say): Promise<void> {
  const { bavail, bsize } = await statfs(data)
  const free = bavail * bsize
  const mebibytes = Math.floor(free / 1024 / 1024)
  if (mebibytes >= spaceMinMebibytes) say('fine', 'disk-space', `${mebibytes} MiB of the disk are free.`)
  else {
    say('wrong', 'disk-space', `Only ${mebibytes} MiB of the disk are free.`, {
      todo: 'Make room: an engine that cannot write takes nothing more.',
    })
  }
}

/** A new segment and a checkpoint need room; below this the next write may well be the one that fails. */
const spaceMinMebibytes = 256

/** Reads a partition to its end; gives the offset where it ends, if that is known. */
async function examinePartition(
  snapshot: PartitionSnapshot,
  say: Say,
  remedies: Remedies,
  inUse: boolean,
): Promise<number | undefined> {
  const { partition } = snapshot.files.lineage
  let end = 0
  try {
    for await (const { offset, records } of readSnapshot(snapshot)) {
      for (const bytes of records) decodeRecord(bytes)
      end = offset + records.length
    }
  } catch (error) {
    const location = damageLocation(error)
    const truncation = location && (await planTruncation(snapshot.files, location))
    if (truncation) {
      remedies.truncations.push({ snapshot, truncation })
      say('wrong', 'log-damaged', (error as Error).message, { ...location, todo: costOf(truncation) })
    } else {
      sayError(error, say, 'Put the file back from a copy of the data directory.')
    }
    return undefined
  }
  const { tip, tornEnd, segments } = snapshot.findings!
  say(
    'fine',
    'partition',
    `Partition ${partition}: ${end} records in ${segments.length} segments, all of them whole.`,
  )
  if (tornEnd === tip.position || inUse) return end
  remedies.tornTail = true
  const file = segments.at(-1)!.path
  say(
    'mended',
    'log-torn-tail',
    `${tornEnd - tip.position} bytes of an unfinished write stand at the end of ${file}, byte ${tip.position}. ` +
      'It was never acknowledged. A start copies them aside and truncations them off.',
    { file, byte: tip.position },
  )
  return end
}

function costOf(truncation: Truncation): string {
  return (
    `Put the file back from a copy of the data directory. If there is none, \`--repair\` can set aside what stands behind ` +
    `the damage and end the partition there. That loses ${lossOf(truncation)}.`
  )
}

function lossOf({ partition, from, to, later }: Truncation): string {
  const files =
    later.length === 0 ? '' : `, with ${later.length} later segment${later.length === 1 ? '' : 's'}`
  if (to === from) {
    return `what stood in partition ${partition} from offset ${from} on (nothing behind the damage tells how much)${files}`
  }
  const records =
    to - from === 1 ? `the record at offset ${from}` : `the records at offsets ${from} to ${to - 1}`
  return `${records} of partition ${partition}, and any that came after them without a trace${files}`
}

function sayError(error: unknown, say: Say, todo: string): void {
  if (!(error instanceof HenceError)) throw error
  say('wrong', error.code, error.message, { ...damageLocation(error), todo })
}

function describe({ level, message, todo }: Finding): string {
  const sign = { fine: paint.good('✔'), mended: paint.warn('!'), wrong: paint.bad('✘') }[level]
  return `${sign} ${message}${todo === undefined ? '' : `\n  ${paint.strong('To do:')} ${todo}`}`
}

/** Does what it may; everything beyond an ordinary start only after a confirmation. */
async function repaired(
  options: DoctorOptions,
  snapshot: LogSnapshot | undefined,
  remedies: Remedies,
): Promise<number> {
  const { data, yes = false } = options
  const report = printReport(options.json === true)
  const lock = await lockDirectory(data)
  try {
    for (const { snapshot, truncation } of remedies.truncations) {
      const word = `lose ${truncation.partition}:${truncation.from}`
      note(
        `Ending partition ${truncation.partition} at byte ${truncation.byte} of ${truncation.file} loses ${lossOf(truncation)}.`,
      )
      if (!(await confirmed(word, yes))) return exitCode.operator
      const copies = await truncatePartition(snapshot.files, truncation)
      remedies.tornTail = true
      remedies.state = 'It may have been derived from what is lost.'
      note(
        `Partition ${truncation.partition} ends at offset ${truncation.from} now. What was cut off is in ${copies.join(', ')}.`,
      )
    }
    if (remedies.state !== undefined) {
      note(`The derived state is of no use: ${remedies.state} It is derived again from the log.`)
      if (!(await confirmed('derive again', yes))) return exitCode.operator
      note(`The old state is in ${await setAside(data, 'state')}.`)
    } else {
      for (const { name, why } of remedies.generations) {
        note(`\`${name}\` is of no use: ${why} It is derived again from the log.`)
        if (!(await confirmed('derive again', yes))) return exitCode.operator
        note(`The old one is in ${await setAside(data, name)}.`)
      }
    }
    if (remedies.tornTail && snapshot) {
      const log = await openFileLog({ directory: data, clock: systemClock, report })
      await log.close()
    }
  } finally {
    await lock.release()
  }
  const after = await examine(data)
  const left = after.findings.filter(({ level }) => level === 'wrong')
  for (const finding of left) note(describe(finding))
  if (left.length === 0) note(paintError.good('Nothing is left that a start would refuse.'))
  return left.length === 0 ? exitCode.ok : exitCode.operator
}

/** Renames what is there to a name that is free. */
async function setAside(data: string, name: string): Promise<string> {
  for (let number = 1; ; number++) {
    const aside = join(resolve(data), `${name}.aside-${number}`)
    if (
      await stat(aside).then(
        () => true,
        () => false,
      )
    )
      continue
    await rename(join(data, name), aside)
    return aside
  }
}
