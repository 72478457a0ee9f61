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

const command = new Command('npm run bench --')
  .description('Measures what Hence costs, against a bare loop that makes the same bytes durable.')
  .option('--quick', 'few and short rounds: shows that the bench works, its figures are rough')
  .addOption(new Option('--only <part>', 'one part alone').choices(Object.keys(parts)))
  .option(
    '--long <millions>',
    'also: throughput, memory and restart with so many million records',
    wholeNumber,
  )
  .option('--directory <path>', 'a directory on the disk to measure (default: data/ in the project)')
  .option('--json', 'print the results as JSON')
  .addHelpText(
    'after',
    `
Examples:
  npm run bench                     all parts, about five minutes
  npm run bench -- --quick          the same in less than one
  npm run bench -- --only submit    one part
  npm run bench -- --long 10        ten million records as well: minutes, and 10 GB of disk

Progress goes to standard error, the results to standard output. What each line means is in bench/README.md.`,
  )
  .showHelpAfterError('(--help tells more)')
  .parse()
const options: { quick?: true; only?: string; long?: number; directory?: string; json?: true } =
  command.opts()

const below = options.directory ?? join(import.meta.dirname, '../data')
const directory = await freshDirectory(below)
const bench: Bench = { directory, quick: options.quick === true, progress: (line) => console.error(line) }
const machine = await describeMachine(directory)
const loadBefore = loadavg()[0]!
const results: Result[] = []
for (const [name, part] of Object.entries(parts)) {
  if (options.only === undefined || options.only === name) results.push(...(await part(bench)))
}
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
