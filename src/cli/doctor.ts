import type { Finding, Repair } from '../offline/index.ts'
import { command, type DataOptions } from './command.ts'
import { confirmed } from './terminal/confirm.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, paintError, printReport, printResult } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function doctorCommand() {
  return command('doctor', 'show what a start would find in a data directory, and what to do about it', [
    'hence doctor --data data',
    'hence doctor --data data --json',
    'hence doctor --data data --repair                 repairs what a start repairs; asks before anything more',
  ])
    .readsLog()
    .option('--repair', 'cut off a torn tail, as a start does; after a confirmation, set damaged parts aside')
    .option('--yes', 'confirm everything that --repair asks; the app loses the records that are set aside')
    .addHelpText(
      'after',
      '\nWithout --repair it changes nothing, and may run beside a process that has the directory open.',
    )
    .runs(examineData)
}

interface ExamineOptions extends DataOptions {
  readonly repair?: true
  readonly yes?: true
}

async function examineData(options: ExamineOptions): Promise<number | undefined> {
  const { data, json, yes } = options
  const { doctor } = await import('../offline/doctor.ts')
  const diagnosis = await withProgress((work) => doctor({ data, ...work }))
  const { directory, ok, findings, inUse, repairs } = diagnosis
  await printResult(json, { directory, ok, findings }, findings.flatMap(findingLines))
  if (!options.repair) return ok ? exitCode.ok : exitCode.operator
  if (!inUse) {
    for (const each of repairs) if (!(await agreed(each, yes))) return exitCode.operator
  }
  const report = printReport(json)
  const { repair } = await import('../offline/repair.ts')
  const after = await withProgress((work) => repair({ data, repairs, report, ...work }))
  for (const line of after.findings.filter(({ level }) => level === 'wrong').flatMap(findingLines)) note(line)
  if (!after.ok) return exitCode.operator
  note(paintError.good('Nothing is left that a start would refuse.'))
}

/** Asks before each repair that a start would not do by itself. */
async function agreed(repair: Repair, yes: true | undefined): Promise<boolean> {
  switch (repair.kind) {
    case 'cut-torn-tail':
      return true
    case 'end-partition': {
      const { partition, offset, file, byte, loss } = repair
      note(`Ending partition ${partition} at byte ${byte} of ${file} loses ${loss}.`)
      return confirmed(`lose ${partition}:${offset}`, yes)
    }
    case 'set-state-aside':
      note(`\`${repair.folder}\` is of no use: ${repair.reason} It is derived again from the log.`)
      return confirmed('derive again', yes)
  }
}

function findingLines({ level, message, todo }: Finding): string[] {
  const sign = {
    fine: paint.good('✔'),
    warning: paint.warn('!'),
    mended: paint.warn('!'),
    wrong: paint.bad('✘'),
  }[level]
  return [`${sign} ${message}`, ...(todo === undefined ? [] : [`  ${paint.strong('To do:')} ${todo}`])]
}
