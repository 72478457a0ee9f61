import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { carriers } from './carriers.ts'
import { claims } from './claims.ts'
import { cut } from './cut.ts'
import { goalsOf } from './goals.ts'
import { growth } from './growth.ts'
import { http } from './http.ts'
import { load } from './load.ts'
import { describeMachine, freshDirectory } from './place.ts'
import { svgOf } from './plot.ts'
import { postgres } from './postgres.ts'
import { promotion } from './promotion.ts'
import { replay } from './replay.ts'
import { describe, describeGoals } from './report.ts'
import { reprocess } from './reprocess.ts'
import { restart } from './restart.ts'
import type { Bench, Result } from './result.ts'
import { shop } from './shop.ts'
import { sqlite } from './sqlite.ts'
import { steps } from './steps.ts'
import { submit } from './submit.ts'
import { transfers } from './transfers.ts'
import { views } from './views.ts'

const parts: Readonly<Record<string, (bench: Bench) => Promise<Result[]>>> = {
  submit,
  claims,
  http,
  replay,
  reprocess,
  promotion,
  views,
  restart,
  load: (bench) => load(bench),
  steps,
  shop,
  transfers,
  sqlite,
  postgres,
  carriers,
  cut,
}

interface Options {
  readonly quick?: true
  readonly tiny?: true
  readonly only?: readonly string[]
  readonly long?: number
  readonly directory?: string
  readonly plots?: string
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
  .option('--only <parts>', `only some of the parts: ${Object.keys(parts).join(', ')}`, partsOf)
  .option(
    '--long <millions>',
    'measure throughput, memory and restart with this many million records, and latency for ten minutes',
    wholeNumber,
  )
  .option('--directory <path>', 'a directory on the disk to measure (default: data/ in the project)')
  .option('--plots <path>', 'a directory for plots, as SVG')
  .option('--json', 'print the results as JSON')
  .addHelpText(
    'after',
    `
Examples:
  npm run bench                     all parts, about twenty minutes
  npm run bench -- --quick          the same in about four minutes
  npm run bench -- --only submit,http
  npm run bench -- --only load --long 10   ten million records and ten minutes of load: 10 GB of disk

Progress goes to standard error, results to standard output. bench/README.md explains each line.`,
  )
  .showHelpAfterError('(see --help)')
  .parse()
const options: Options = command.opts()

// Without it, each process would remove the types of 290 files in its first 0.3 s. The package has none.
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../node_modules/.cache/node')
const directory = await freshDirectory(options.directory ?? join(import.meta.dirname, '../data'))
const skipped: string[] = []
const bench: Bench = {
  directory,
  sized: (full, quick, tiny) => (options.tiny ? tiny : options.quick ? quick : full),
  progress: (line) => console.error(line),
  plot(name, plot) {
    if (options.plots === undefined) return
    mkdirSync(options.plots, { recursive: true })
    writeFileSync(join(options.plots, `${name}.svg`), svgOf(plot))
  },
  skip(what, why) {
    skipped.push(`${what}: not measured here: ${why}`)
    console.error(skipped.at(-1))
  },
}
const machine = await describeMachine(directory)
const loadBefore = loadavg()[0]!
const results: Result[] = []
const ofAll = options.long === undefined ? parts : { ...parts, load: (bench: Bench) => load(bench, 600) }
for (const [name, part] of Object.entries(ofAll)) {
  if (options.only === undefined || options.only.includes(name)) results.push(...(await part(bench)))
}
if (options.tiny && options.only === undefined) results.push(...(await growth(bench, 2)))
if (options.long !== undefined) results.push(...(await growth(bench, options.long)))
const goals = goalsOf(results)
const loads = [loadBefore, loadavg()[0]!]
console.log(
  options.json
    ? JSON.stringify({ machine, loads, results, goals, skipped })
    : `\n${describe(machine, results, loads, skipped)}\n\n${describeGoals(machine, goals)}`,
)

function partsOf(text: string): readonly string[] {
  const names = text.split(',')
  const unknown = names.find((name) => !Object.hasOwn(parts, name))
  if (unknown === undefined) return names
  throw new InvalidArgumentError(`There is no part ${unknown}.`)
}

function wholeNumber(text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && number >= 1 && number <= 100) return number
  throw new InvalidArgumentError('It must be a whole number from 1 to 100.')
}
