import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { completionCommand } from './completion.ts'
import { devCommand } from './dev.ts'
import { doctorCommand } from './doctor.ts'
import { exitCode } from './exit-code.ts'
import { explainCommand } from './explain.ts'
import { initCommand } from './init.ts'
import { keysCommand } from './keys.ts'
import { logCommand } from './log.ts'
import { endQuietlyWhenNobodyReads } from './output.ts'
import { startCommand } from './start.ts'
import { submitCommand } from './submit.ts'
import { tableCommand } from './table.ts'
import { tailCommand } from './tail.ts'

/** Runs the command that the arguments name; sets the exit code of the process. */
export async function run(argv: readonly string[]): Promise<void> {
  endQuietlyWhenNobodyReads()
  try {
    await program().parseAsync(argv)
  } catch (error) {
    // What is wrong with a command line, Commander has printed by now; `--help` and `--version` come here too.
    if (!(error instanceof CommanderError)) throw error
    process.exitCode = error.exitCode === 0 ? exitCode.ok : exitCode.usage
  }
}

function program(): Command {
  const hence = new Command('hence')
    .description('Write one message. Hence, everything else.')
    .version(version())
    .helpCommand(false)
    .addHelpText(
      'after',
      `
Examples:
  hence init shop && cd shop && npm install && npm start
  hence submit place-order '{"order":"o1","sku":"mug","qty":1}'
  hence explain 0197f5a0-7c2e-7d3a-8b1e-2f4c6a8e0d11

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the request was rejected or failed, 4 nothing found,
            5 try again, 6 somebody must look. See docs/reference/cli.md.`,
    )
  const commands = [
    initCommand(),
    startCommand(),
    devCommand(),
    submitCommand(),
    explainCommand(),
    tailCommand(),
    tableCommand(),
    logCommand(),
    keysCommand(),
    doctorCommand(),
  ]
  for (const each of commands) hence.addCommand(each)
  hence.addCommand(completionCommand(hence))
  strict(hence)
  return hence
}

/** Wrong usage is told with a hint, and thrown instead of ending the process half-way; in every subcommand too. */
function strict(command: Command): void {
  command.exitOverride().showHelpAfterError('(--help tells more)').showSuggestionAfterError()
  for (const each of command.commands) strict(each)
}

export function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
}
