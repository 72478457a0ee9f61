import { InvalidArgumentError, Option } from 'commander'
import type { Copied, Position } from '../offline/index.ts'
import { printCopied } from './backup.ts'
import { command, logTime } from './command.ts'
import { note, paintError } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function restoreCommand() {
  return command(
    'restore',
    'make a data directory out of a backup: all of it, or as it was at a time or right after a record',
    [
      'hence restore --from /mnt/backup/2026-11-24 --to data',
      'hence restore --from data --to yesterday --until 2026-11-23T18:00:00Z',
      'hence restore --from data --to before-the-mistake --at 0:1234',
    ],
  )
    .requiredOption('--from <directory>', 'the backup, or a data directory')
    .requiredOption('--to <directory>', 'the data directory to make: a new or empty directory')
    .option(
      '--until <time>',
      'leave out records with a later log time: ISO 8601, or milliseconds since 1970',
      logTime,
    )
    .addOption(
      new Option(
        '--at <tokens>',
        'leave out what came after these records: 0:1234, or 0:1234,1:998; other partitions keep what was ' +
          'durable by then',
      )
        .argParser(positionsOf)
        .conflicts('until'),
    )
    .json()
    .addHelpText('after', '\nThe next start derives the tables from the log.')
    .runs(restoreData)
}

interface RestoreDataOptions {
  readonly from: string
  readonly to: string
  readonly until?: number
  readonly at?: readonly Position[]
  readonly json?: true
}

async function restoreData(options: RestoreDataOptions): Promise<number> {
  const { from, to, until, at, json } = options
  const { restore } = await import('../offline/backup.ts')
  const copied = await withProgress((work) => restore({ from, to, until, at, ...work }))
  if (!json && (at ?? until) !== undefined) note(`The last records are ${lastRecords(copied) || 'none'}.`)
  for (const { partition, offset } of at ?? []) {
    const end = copied.ends[partition]!
    if (end > offset) continue
    note(
      `${paintError.warn('!')} Partition ${partition} ends before ${partition}:${end}, not after ` +
        `${partition}:${offset}: that record follows from one that is left out.`,
    )
  }
  if (copied.needsKey && !json)
    note(
      `${paintError.warn('!')} The signing key is in no backup. Before this directory signs heads, copy the key to ` +
        '`audit/key.pem`, or ask for a new one with `hence start --audit --new-key`.',
    )
  return printCopied(copied, json)
}

function lastRecords({ ends }: Copied): string {
  return ends.flatMap((end, partition) => (end > 0 ? [`${partition}:${end - 1}`] : [])).join(', ')
}

function positionsOf(text: string): readonly Position[] {
  const positions: Position[] = []
  for (const token of text.split(',')) {
    const [, partition = -1, offset = 0] = /^(\d{1,4}):(\d{1,15})$/.exec(token.trim())?.map(Number) ?? []
    if (partition === -1 || positions.some((each) => each.partition === partition))
      throw new InvalidArgumentError(
        'Give tokens of records, PARTITION:OFFSET, separated by commas, at most one a partition.',
      )
    positions.push({ partition, offset })
  }
  return positions
}
