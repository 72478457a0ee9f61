import { tellCopied } from './backup.ts'
import { command, jsonOption, logTime, runs } from './command.ts'
import { copyData } from './copy-data.ts'

/** `hence restore`: a data directory out of a backup, or of another directory, as it was at a time. */
export function restoreCommand() {
  return command(
    'restore',
    'make a data directory out of a backup, as it is or as it was at a time, and verify it',
    [
      'hence restore --from /mnt/backup/2026-11-24 --to data',
      'hence restore --from data --to yesterday --until 2026-11-23T18:00:00Z',
    ],
  )
    .requiredOption('--from <directory>', 'the backup, or a data directory')
    .requiredOption('--to <directory>', 'the new data directory; new or empty')
    .option(
      '--until <time>',
      'leave out what came later, by log time: ISO 8601, or milliseconds since 1970',
      logTime,
    )
    .addOption(jsonOption())
    .addHelpText('after', '\nThe tables are derived from the log at the next start.')
    .action(
      runs(async (options: RestoreOptions, _command: unknown) => {
        const { from, to, until, json } = options
        return tellCopied(await copyData(from, to, until), to, json === true)
      }),
    )
}

interface RestoreOptions {
  readonly from: string
  readonly to: string
  readonly until?: number
  readonly json?: true
}
