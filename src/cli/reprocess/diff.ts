import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Option } from 'commander'
import type { Diff } from '../../reprocess/reprocessing.ts'
import { command, type HenceCommand, type ServiceOptions, wholeNumber } from '../command.ts'
import { summaryLines } from '../terminal/diff-format.ts'
import { note, print, printExact, visible } from '../terminal/output.ts'
import { versionText } from './status-text.ts'
import { caughtUp, onTarget } from './target.ts'

const formats = ['text', 'json', 'ndjson'] as const
type DiffFormat = (typeof formats)[number]

export interface DiffOptions extends ServiceOptions {
  readonly format?: DiffFormat
  readonly samples: number
  readonly out?: string
}

export function diffCommand() {
  const diff = command('diff', 'show the differences between the candidate and the live generation', [
    'hence reprocess diff',
    'hence reprocess diff --samples 20 --out diff.txt',
    'hence reprocess diff --format ndjson --out diff.ndjson           every difference; its SHA-256 is ' +
      'the hash to approve',
  ])
  return onTarget(
    formatOptions(diff),
    async (target, options: DiffOptions, signal) => {
      await caughtUp(target, signal)
      const format = formatOf(options)
      if (format === 'ndjson') {
        const { lines, hash } = await target.differences()
        await writeLines(lines, options.out)
        note(options.json ? JSON.stringify({ diff: hash }) : `diff ${hash}`)
      } else {
        const diff = await target.diff(options.samples)
        await writeText(format === 'json' ? [JSON.stringify(diff)] : diffLines(diff), options.out)
      }
    },
    true,
  )
}

export const samplesDefault = 5

export function formatOptions(command: HenceCommand): HenceCommand {
  return command
    .addOption(
      new Option('--format <form>', 'text, json: the summary; ndjson: every difference').choices(formats),
    )
    .option('--samples <number>', 'how many differences of each group are shown', wholeNumber, samplesDefault)
    .option('--out <file>', 'write it to a file')
}

export function formatOf({ format, json }: Pick<DiffOptions, 'format' | 'json'>): DiffFormat {
  return format ?? (json ? 'json' : 'text')
}

export function diffLines(diff: Diff): string[] {
  const [before, after] = [diff.before, diff.after].map(
    ({ generation, version }) => `generation ${generation}, ${versionText(version)}`,
  )
  return [`${before} → ${after}`, ...summaryLines(diff)]
}

export async function writeText(lines: readonly string[], file: string | undefined): Promise<void> {
  if (file === undefined) for (const line of lines) await print(line)
  else await writeFile(file, lines.map((line) => `${visible(line, false)}\n`).join(''))
}

/** Writes lines of JSON, byte for byte, to a file, or to standard output at the pace of its reader. */
export async function writeLines(lines: AsyncIterable<string>, file: string | undefined): Promise<void> {
  if (file !== undefined) return pipeline(lines, createWriteStream(file))
  const input = Readable.from(lines)
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY }))
    await printExact(line)
}
