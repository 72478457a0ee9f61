import type { Copied } from '../offline/index.ts'
import { command } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, printResult } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function backupCommand() {
  return command(
    'backup',
    'copy a data directory without its derived state into a new one, and check the copy',
    ['hence backup --data data --to /mnt/backup/2026-11-24'],
  )
    .readsLog()
    .requiredOption('--to <directory>', 'where the copy goes: a new or empty directory')
    .option(
      '--state',
      'copy the derived state and nothing else: new standbys begin with it (`start --state`)',
    )
    .addHelpText(
      'after',
      '\nIt may run beside a process that has the directory open. The signing key (audit/key.pem)\nis not ' +
        'in the copy: keep one of it apart. The rest of the copy is as private as the data.',
    )
    .runs(async ({ data, to, state, json }: { data: string; to: string; state?: true; json?: true }) => {
      const { backup, backupState } = await import('../offline/backup.ts')
      if (state) {
        const { records } = await backupState({ data, to })
        const text = `${paint.good('✔')} The state of ${records} records is in ${to}, read back and checked.`
        await printResult(json, { directory: to, records }, [text])
        return exitCode.ok
      }
      const copied = await withProgress((work) => backup({ data, to, ...work }))
      return printCopied(copied, json)
    })
}

export async function printCopied(copied: Copied, json: boolean | undefined): Promise<number> {
  const { directory, ok, logId, records, flaws } = copied
  const mark = ok ? paint.good('✔') : '·'
  await printResult(json, copied, [
    ...flaws.map(({ message }) => `${paint.bad('✘')} ${message}`),
    `${mark} ${records} records of log ${logId} are in ${directory}, read back and checked.`,
  ])
  return ok ? exitCode.ok : exitCode.operator
}
