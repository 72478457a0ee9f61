import { rename, stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { systemClock } from '../clock.ts'
import { HenceError } from '../failure.ts'
import { type Cut, cutOff, planCut } from '../log/file-log/cut.ts'
import { damagePlace } from '../log/file-log/damage.ts'
import { openFileLog } from '../log/file-log/file-log.ts'
import { type Holder, holderOf, lockDirectory } from '../log/file-log/lock.ts'
import { type LogLook, lookAtLog, type PartitionLook, readLooked } from '../log/file-log/look.ts'
import { decodeRecord } from '../log/record.ts'
import { checkCode } from './code.ts'
import { command, dataOption, jsonOption, runs } from './command.ts'
import { confirmed } from './confirm.ts'
import { exitCode } from './exit-code.ts'
import { note, paint, paintError, print, printReport } from './output.ts'
import { lookAtState } from './state.ts'

/** What the doctor found. */
interface Finding {
  /** `fine`; `mended`: an ordinary start sees to it; `wrong`: it does not start, or not for long. */
  readonly level: 'fine' | 'mended' | 'wrong'
  /** A stable word for programs to match on. */
  readonly code: string
  readonly message: string
  readonly file?: string
  readonly byte?: number
  /** What to do about it, other than to start. */
  readonly todo?: string
}

/** What may be done about what was found. */
interface Remedies {
  tornTail: boolean
  readonly cuts: { readonly look: PartitionLook; readonly cut: Cut }[]
  /** Why the derived state is of no use. */
  state: string | undefined
}

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
        const { findings, remedies, look, holder } = await examine(data)
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
            `${resolve(data)} is in use by another process (${JSON.stringify(holder)}), so nothing was repaired. Stop it first.`,
          )
        }
        return repaired(options, look, remedies)
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
  const remedies: Remedies = { tornTail: false, cuts: [], state: undefined }
  const say = (level: Finding['level'], code: string, message: string, more: Partial<Finding> = {}) => {
    findings.push({ level, code, message, ...more })
  }
  let holder: Holder | 'unknown' | undefined
  let look: LogLook | undefined
  const directory = await stat(data).catch(() => undefined)
  if (!directory?.isDirectory()) {
    say('wrong', 'no-log', `The directory ${resolve(data)} does not exist.`, { todo: 'Give another one.' })
    return { findings, remedies, look, holder }
  }
  holder = await holderOf(data)
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
    look = await lookAtLog(data)
  } catch (error) {
    sayError(error, say, 'Put the file back from a copy of the data directory.')
    return { findings, remedies, look, holder }
  }
  if (look === undefined) {
    say('fine', 'no-log', 'There is no log yet; a start makes one.')
    return { findings, remedies, look, holder }
  }
  const ends: (number | undefined)[] = []
  for (const each of look.partitions)
    ends.push(await examinePartition(each, say, remedies, holder !== undefined))
  await examineState(data, look, ends, say, remedies)
  return { findings, remedies, look, holder }
}

type Say = (level: Finding['level'], code: string, message: string, more?: Partial<Finding>) => void

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
  look: PartitionLook,
  say: Say,
  remedies: Remedies,
  inUse: boolean,
): Promise<number | undefined> {
  const { partition } = look.place.lineage
  let end = 0
  try {
    for await (const { offset, records } of readLooked(look)) {
      for (const bytes of records) decodeRecord(bytes)
      end = offset + records.length
    }
  } catch (error) {
    const place = damagePlace(error)
    const cut = place && (await planCut(look.place, place))
    if (cut) {
      remedies.cuts.push({ look, cut })
      say('wrong', 'log-damaged', (error as Error).message, { ...place, todo: costOf(cut) })
    } else {
      sayError(error, say, 'Put the file back from a copy of the data directory.')
    }
    return undefined
  }
  const { tip, tornEnd, segments } = look.findings!
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
      'It was never acknowledged. A start copies them aside and cuts them off.',
    { file, byte: tip.position },
  )
  return end
}

function costOf(cut: Cut): string {
  return (
    `Put the file back from a copy of the data directory. If there is none, \`--repair\` can set aside what stands behind ` +
    `the damage and end the partition there. That loses ${lossOf(cut)}.`
  )
}

function lossOf({ partition, from, to, later }: Cut): string {
  const files =
    later.length === 0 ? '' : `, with ${later.length} later segment${later.length === 1 ? '' : 's'}`
  if (to === from) {
    return `what stood in partition ${partition} from offset ${from} on (nothing behind the damage tells how much)${files}`
  }
  const records =
    to - from === 1 ? `the record at offset ${from}` : `the records at offsets ${from} to ${to - 1}`
  return `${records} of partition ${partition}, and any that came after them without a trace${files}`
}

async function examineState(
  data: string,
  look: LogLook,
  ends: readonly (number | undefined)[],
  say: Say,
  remedies: Remedies,
): Promise<void> {
  const useless = (code: string, message: string) => {
    remedies.state = message
    say('wrong', code, message, {
      todo: 'Remove the folder `state` (`--repair` sets it aside): everything in it is derived again from the log.',
    })
  }
  try {
    const state = await lookAtState(data)
    if (state === undefined) {
      say('fine', 'no-state', 'No derived state was saved yet; a start derives it from the log.')
      return
    }
    if (state.logId !== look.id || state.positions.length !== look.partitions.length) {
      useless(
        'state-of-another-log',
        `The derived state belongs to log ${state.logId}; the log here is ${look.id}.`,
      )
      return
    }
    const ahead = state.positions.findIndex((position, partition) => position > (ends[partition] ?? position))
    if (ahead >= 0) {
      say(
        'wrong',
        'log-shorter-than-state',
        `Partition ${ahead} ends at offset ${ends[ahead]}, but the tables were derived from ${state.positions[ahead]} records: a part of the log is gone.`,
        { todo: 'Put the log back from a copy. Only if there is none, remove the folder `state`.' },
      )
    } else {
      const behind = state.positions.reduce((sum, at, partition) => sum + ((ends[partition] ?? at) - at), 0)
      say(
        'fine',
        'state',
        `The derived state can be read; a start derives ${behind} records that came after it.`,
      )
    }
    const kept = await checkCode(data, state.version)
    if (kept.missing)
      say('fine', 'code-not-kept', `The code of version ${state.version.slice(0, 12)} is not kept here.`)
    else say('fine', 'code', `The code that derived it (version ${state.version.slice(0, 12)}) is kept.`)
    for (const file of kept.changed) {
      say('wrong', 'code-changed-on-disk', `${file} is not the code that its name says.`, {
        file,
        todo: 'Put the file back from a copy, or remove it: a start with the same code keeps it again.',
      })
    }
  } catch (error) {
    if (error instanceof HenceError && error.code === 'state-unreadable') useless(error.code, error.message)
    else throw error
  }
}

function sayError(error: unknown, say: Say, todo: string): void {
  if (!(error instanceof HenceError)) throw error
  say('wrong', error.code, error.message, { ...damagePlace(error), todo })
}

function describe({ level, message, todo }: Finding): string {
  const sign = { fine: paint.good('✔'), mended: paint.warn('!'), wrong: paint.bad('✘') }[level]
  return `${sign} ${message}${todo === undefined ? '' : `\n  ${paint.strong('To do:')} ${todo}`}`
}

/** Does what it may; everything beyond an ordinary start only after a confirmation. */
async function repaired(
  options: DoctorOptions,
  look: LogLook | undefined,
  remedies: Remedies,
): Promise<number> {
  const { data, yes = false } = options
  const report = printReport(options.json === true)
  const lock = await lockDirectory(data)
  try {
    for (const { look, cut } of remedies.cuts) {
      const word = `lose ${cut.partition}:${cut.from}`
      note(`Ending partition ${cut.partition} at byte ${cut.byte} of ${cut.file} loses ${lossOf(cut)}.`)
      if (!(await confirmed(word, yes))) return exitCode.operator
      const copies = await cutOff(look.place, cut)
      remedies.tornTail = true
      remedies.state = 'It may have been derived from what is lost.'
      note(
        `Partition ${cut.partition} ends at offset ${cut.from} now. What was cut off is in ${copies.join(', ')}.`,
      )
    }
    if (remedies.state !== undefined) {
      note(`The derived state is of no use: ${remedies.state} It is derived again from the log.`)
      if (!(await confirmed('derive again', yes))) return exitCode.operator
      note(`The old state is in ${await setAside(data, 'state')}.`)
    }
    if (remedies.tornTail && look) {
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
