import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Command, Option } from 'commander'
import { HenceError } from '../../failure.ts'
import { catchUp, failureOf } from '../../reprocess/catch-up.ts'
import type { Diff } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs, wholeNumber } from '../command.ts'
import { formatSummary, type SummaryFormat, summaryFormats } from '../terminal/diff-format.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note } from '../terminal/output.ts'
import { Progress } from '../terminal/progress.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import { type Reach, reachOptions } from './reach.ts'
import { none } from './run.ts'
import { barText, versionText } from './status-text.ts'
import { withReach } from './with-reach.ts'

/** The forms of a diff, and all of it: a line of JSON for each difference. */
export type DiffFormat = SummaryFormat | 'ndjson'

export interface DiffOptions extends ServiceOptions {
  readonly format?: DiffFormat
  readonly samples: number
  readonly out?: string
}

/** `hence reprocess diff` */
export function diffCommand() {
  const diff = command('diff', 'tell what the other generation has made differently', [
    'hence reprocess diff',
    'hence reprocess diff --format markdown --out diff.md             for a pull request',
    'hence reprocess diff --format ndjson --out diff.ndjson           every difference; its SHA-256 is the hash to approve',
  ])
  return formatOptions(reachOptions(diff)).action(
    runs(async (options: DiffOptions, self: Command) => {
      const stop = stopSignal()
      return withReach(options, self, async (reach) => {
        await caughtUp(reach, stop.signal)
        const format = formatOf(options)
        if (format === 'ndjson') {
          const { lines, hash } = await reach.differences()
          await write(Readable.fromWeb(lines as never), options.out)
          note(options.json ? JSON.stringify({ diff: hash }) : `diff ${hash}`)
        } else {
          await write([diffFormed(format, await reach.diff(options.samples))], options.out)
        }
        return exitCode.ok
      })
    }),
  )
}

/** Adds the options that say how a diff is told. */
export function formatOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--format <form>', 'for a person, a program, every difference, a pull request').choices([
        ...summaryFormats,
        'ndjson',
      ]),
    )
    .addOption(
      new Option('--samples <number>', 'how many differences of each kind are shown')
        .default(5)
        .argParser(wholeNumber),
    )
    .option('--out <file>', 'write it there')
    .addOption(jsonOption())
}

/** `--json` is another way to say `--format json`. */
export function formatOf({ format, json }: Pick<DiffOptions, 'format' | 'json'>): DiffFormat {
  return format ?? (json ? 'json' : 'text')
}

/** A diff as text of a form, with a line break at its end. */
export function diffFormed(form: SummaryFormat, diff: Diff): string {
  const [before, after] = [diff.before, diff.after].map(({ version }) => version.slice(0, 12)) as [
    string,
    string,
  ]
  const heading =
    form === 'text'
      ? `generation ${diff.before.generation}, ${versionText(before)} → generation ${diff.after.generation}, ${versionText(after)}\n`
      : ''
  return `${heading}${formatSummary(form, diff, { before, after })}\n`
}

/** Writes to a file, or to standard output at the pace of whoever reads it. */
export async function write(
  text: Iterable<string> | AsyncIterable<Uint8Array>,
  file: string | undefined,
): Promise<void> {
  if (file !== undefined) return pipeline(text, createWriteStream(file))
  return pipeline(text, process.stdout, { end: false })
}

async function caughtUp(reach: Reach, signal: AbortSignal): Promise<void> {
  const progress = new Progress()
  const other = await catchUp(reach, signal, (status) => progress.show((columns) => barText(status, columns)))
  progress.end()
  if (other === undefined) throw none()
  if (other.state === 'failed') throw failureOf(other)
  // That it is paused is told by whoever compares.
  if (other.state === 'deriving') throw stopped()
}

function stopped(): HenceError {
  return new HenceError(
    'reprocess-behind',
    'retry',
    'Stopped: the other generation has not reached the end of the log, so it cannot be compared yet.',
  )
}
