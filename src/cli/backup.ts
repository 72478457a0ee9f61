import { type Copied, copyData } from '../offline/copy-data.ts'
import { command, dataOption, jsonOption, runs } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, print } from './terminal/output.ts'

/** `hence backup`: a copy of a data directory, also while a process has it open. */
export function backupCommand() {
  return command(
    'backup',
    'copy all that is not derived of a data directory into a new one, and verify the copy',
    ['hence backup --data data --to /mnt/backup/2026-11-24'],
  )
    .addOption(dataOption().makeOptionMandatory())
    .requiredOption('--to <directory>', 'where the copy goes; new or empty')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nIt may run beside a running process. The copy holds keys: keep it as you keep the data.',
    )
    .action(
      runs(async ({ data, to, json }: { data: string; to: string; json?: true }, _command: unknown) =>
        tellCopied(await copyData(data, to), to, json === true),
      ),
    )
}

/** Tells what was copied, and gives the exit code. */
export async function tellCopied(copied: Copied, to: string, json: boolean): Promise<number> {
  const { logId, records, ends, flaws } = copied
  const ok = flaws.length === 0
  if (json) {
    await print(JSON.stringify({ directory: to, ok, logId, records, ends, flaws }))
  } else {
    for (const { message } of flaws) await print(`${paint.bad('✘')} ${message}`)
    await print(
      `${ok ? paint.good('✔') : '·'} ${records} records of log ${logId} are in ${to}, read again and checked.`,
    )
  }
  return ok ? exitCode.ok : exitCode.operator
}
