import { loadavg } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { claims } from './claims.ts'
import { growth } from './growth.ts'
import { http } from './http.ts'
import { describeMachine, freshDirectory } from './place.ts'
import { postgres } from './postgres.ts'
import { replay } from './replay.ts'
import { describe } from './report.ts'
import { reprocess } from './reprocess.ts'
import { restart } from './restart.ts'
import type { Bench, Result } from './result.ts'
import { submit } from './submit.ts'

const parts: Readonly<Record<string, (bench: Bench) => Promise<Result[]>>> = {
  submit,
  claims,
  http,
  replay,
  reprocess,
  restart,
  postgres,
}

interface Options {
  readonly quick?: true
  readonly tiny?: true
  readonly only?: string
  readonly long?: number
  readonly directory?: string
  readonly json?: true
}

const command = new Command('npm run bench --')
  .description('Measures what Hence costs, against a bare loop that makes the same bytes durable.')
  .option('--quick', 'few and short rounds: shows that the bench works, with rough figures')
  .addOption(
    new Option(
      '--tiny',
      'every part once, as small as possible, `--long` too: a test of the bench',
    ).conflicts(['quick', 'long']),
  )
  .addOption(new Option('--only <part>', 'only one part').choices(Object.keys(parts)))
  .option(
    '--long <millions>',
    'also measure throughput, memory and restart with this many million records',
    wholeNumber,
  )
  .option('--directory <path>', 'a directory on the disk to measure (default: data/ in the project)')
  .option('--json', 'print the results as JSON')
  .addHelpText(
    'after',
    `
Examples:
  npm run bench                     all parts, about five minutes
  npm run bench -- --quick          the same in about one minute
  npm run bench -- --only submit    one part
  npm run bench -- --long 10        ten million records as well: minutes, and 10 GB of disk

Progress goes to standard error, results to standard output. bench/README.md explains each line.`,
  )
  .showHelpAfterError('(see --help)')
  .parse()
const options: Options = command.opts()

// A tiny run starts about twenty processes, and its figures do not matter, so they share compiled code.
if (options.tiny) {
  process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../node_modules/.cache/node')
}
const directory = await freshDirectory(options.directory ?? join(import.meta.dirname, '../data'))
const bench: Bench = {
  directory,
  sized: (full, quick, tiny) => (options.tiny ? tiny : options.quick ? quick : full),
  progress: (line) => console.error(line),
}
const machine = await describeMachine(directory)
const loadBefore = loadavg()[0]!
const results: Result[] = []
for (const [name, part] of Object.entries(parts)) {
  if (options.only === undefined || options.only === name) results.push(...(await part(bench)))
}
if (options.tiny && options.only === undefined) results.push(...(await growth(bench, 2)))
if (options.long !== undefined) results.push(...(await growth(bench, options.long)))
const loads = [loadBefore, loadavg()[0]!]
console.log(
  options.json ? JSON.stringify({ machine, loads, results }) : `\n${describe(machine, results, loads)}`,
)

function wholeNumber(text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && number >= 1 && number <= 100) return number
  throw new InvalidArgumentError('It must be a whole number from 1 to 100.')
}
