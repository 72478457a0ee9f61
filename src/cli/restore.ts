import { InvalidArgumentError, Option } from 'commander'
import { copyData } from '../offline/copy-data.ts'
import { tellCopied } from './backup.ts'
import { command, jsonOption, logTime, runs } from './command.ts'
import { note, paintError } from './terminal/output.ts'

/** `hence restore`: a data directory out of a backup, or of another directory, as it was at a time. */
export function restoreCommand() {
  return command(
    'restore',
    'make a data directory out of a backup, as it is, as it was at a time, or right after a record, and verify it',
    [
      'hence restore --from /mnt/backup/2026-11-24 --to data',
      'hence restore --from data --to yesterday --until 2026-11-23T18:00:00Z',
      'hence restore --from data --to before-the-mistake --at 0:1234',
    ],
  )
    .requiredOption('--from <directory>', 'the backup, or a data directory')
    .requiredOption('--to <directory>', 'the new data directory; new or empty')
    .option(
      '--until <time>',
      'leave out what came later, by log time: ISO 8601, or milliseconds since 1970',
      logTime,
    )
    .addOption(
      new Option(
        '--at <tokens>',
        'leave out what came after these records, such as 0:1234 or 0:1234,1:998; other partitions keep what was durable by then',
      )
        .argParser(placesOf)
        .conflicts('until'),
    )
    .addOption(jsonOption())
    .addHelpText('after', '\nThe tables are derived from the log at the next start.')
    .action(
      runs(async (options: RestoreOptions, _command: unknown) => {
        const { from, to, until, at, json } = options
        const copied = await copyData(from, to, {
          ...(until !== undefined && { until }),
          ...(at !== undefined && { after: at }),
        })
        if (!json && (at ?? until) !== undefined) {
          const last = copied.ends.flatMap((end, partition) => (end > 0 ? [`${partition}:${end - 1}`] : []))
          note(`The last records are ${last.join(', ') || 'none'}.`)
        }
        for (const [partition, offset] of at ?? []) {
          const end = copied.ends[partition]!
          if (end > offset) continue
          note(
            `${paintError.warn('!')} Partition ${partition} ends before ${partition}:${end}, not after ${partition}:${offset}: ` +
              'that record follows from one that is left out.',
          )
        }
        return tellCopied(copied, to, json === true)
      }),
    )
}

interface RestoreOptions {
  readonly from: string
  readonly to: string
  readonly until?: number
  readonly at?: ReadonlyMap<number, number>
  readonly json?: true
}

function placesOf(text: string): ReadonlyMap<number, number> {
  const places = new Map<number, number>()
  for (const token of text.split(',')) {
    const [, partition, offset] = /^(\d{1,4}):(\d{1,15})$/.exec(token.trim())?.map(Number) ?? []
    if (partition === undefined || offset === undefined || places.has(partition)) {
      throw new InvalidArgumentError(
        'It must be tokens of records, one a partition at most: PARTITION:OFFSET, with commas between.',
      )
    }
    places.set(partition, offset)
  }
  return places
}
