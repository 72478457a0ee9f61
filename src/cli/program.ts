import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { exitCode } from './terminal/exit-code.ts'
import { exitWhenReaderStops } from './terminal/output.ts'

/** Loads only the command that runs; `--help` loads all, so the heavy rooms are imported when they run. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  init: async () => (await import('./init.ts')).initCommand(),
  dev: async () => (await import('./dev.ts')).devCommand(),
  start: async () => (await import('./start.ts')).startCommand(),
  submit: async () => (await import('./submit.ts')).submitCommand(),
  explain: async () => (await import('./explain.ts')).explainCommand(),
  table: async () => (await import('./table.ts')).tableCommand(),
  views: async () => (await import('./views.ts')).viewsCommand(),
  sql: async () => (await import('./sql.ts')).sqlCommand(),
  tail: async () => (await import('./tail.ts')).tailCommand(),
  violations: async () => (await import('./violations.ts')).violationsCommand(),
  effects: async () => (await import('./effects.ts')).effectsCommand(),
  reprocess: async () => (await import('./reprocess/reprocess.ts')).reprocessCommand(),
  check: async () => (await import('./check.ts')).checkCommand(),
  log: async () => (await import('./log.ts')).logCommand(),
  verify: async () => (await import('./verify.ts')).verifyCommand(),
  doctor: async () => (await import('./doctor.ts')).doctorCommand(),
  rule: async () => (await import('./rule.ts')).ruleCommand(),
  backup: async () => (await import('./backup.ts')).backupCommand(),
  restore: async () => (await import('./restore.ts')).restoreCommand(),
  receipt: async () => (await import('./receipt.ts')).receiptCommand(),
  head: async () => (await import('./head.ts')).headCommand(),
  keys: async () => (await import('./keys.ts')).keysCommand(),
}

export async function run(argv: readonly string[]): Promise<void> {
  exitWhenReaderStops()
  try {
    await (await program(argv[2])).parseAsync(argv)
  } catch (error) {
    // Commander has printed the usage error already. `--help` and `--version` end up here too.
    if (!(error instanceof CommanderError)) throw error
    process.exitCode = error.exitCode === 0 ? exitCode.ok : exitCode.usage
  }
}

/** The command line with the one command of this name, or with all commands when there is none. */
async function program(name: string | undefined): Promise<Command> {
  const hence = new Command('hence')
    .description('Write one message. Hence, everything else.')
    .version(version())
    .helpCommand(false)
    .addHelpText(
      'after',
      `
Examples:
  hence init shop && cd shop && npm install && npm start
  hence submit stock-product '{"product":"mug","title":"A mug","quantity":3}'
  hence submit place-order '{"order":"o2","product":"mug","quantity":1,"customer":"ada"}' --id first-order
  hence explain first-order
  hence table scan orders --index byCustomer --prefix ada
  hence verify --data data

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 request rejected or failed, 4 not found, 5 try again,
            6 an operator must look, 7 and 8 results of a check. See docs/reference/cli.md.`,
    )
  const one = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name]
  const isVersion = name === '--version' || name === '-V'
  for (const load of one ? [one] : isVersion ? [] : Object.values(commands)) hence.addCommand(await load())
  strict(hence)
  return hence
}

/** Makes a command and its subcommands throw on wrong usage, with a hint, instead of exiting the process. */
function strict(command: Command): void {
  command.exitOverride().showHelpAfterError('(--help shows the options)').showSuggestionAfterError()
  command.configureHelp({ subcommandTerm: termOf })
  for (const each of command.commands) strict(each)
}

/** A command and its arguments in a list of commands; that each has options goes without saying. */
function termOf(command: Command): string {
  const words = command.registeredArguments.map((each) => {
    const name = each.variadic ? `${each.name()}...` : each.name()
    return each.required ? `<${name}>` : `[${name}]`
  })
  return [command.name(), ...words].join(' ')
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
}
