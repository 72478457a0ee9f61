import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { QueryPart } from '../app/index.ts'
import { fileFailure } from '../file-failure.ts'
import { exitCode, exitCodeOf } from './terminal/exit-code.ts'
import { note, printError } from './terminal/output.ts'

/** Makes a command; `--help` shows the examples at its end. */
export function command(name: string, description: string, examples: readonly string[]): Command {
  return new Command(name)
    .description(description)
    .helpCommand(false)
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`)
}

/**
 * Wraps an action: sets the exit code that it returns, or prints the error that it throws and sets the code
 * for that.
 */
export function runs<Args extends unknown[]>(
  action: (...args: Args) => Promise<number>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    // Commander passes the arguments, the options and the command itself.
    const options = args.at(-2) as { readonly json?: boolean }
    try {
      process.exitCode = await action(...args)
    } catch (caught) {
      const error = fileFailure(caught) ?? caught
      if (error instanceof CommanderError) {
        note(`error: ${error.message}`)
        process.exitCode = exitCode.usage
      } else {
        printError(error, options.json === true)
        process.exitCode = exitCodeOf(error)
      }
    }
  }
}

export function jsonOption(): Option {
  return new Option('--json', 'print JSON, for programs')
}

export function dataOption(): Option {
  return new Option('--data <directory>', 'the data directory: the log and everything derived from it')
}

export function wholeNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}

/** A log time in milliseconds since 1970. */
export function logTime(text: string): number {
  const time = /^\d{1,16}$/.test(text) ? Number(text) : Date.parse(text)
  if (Number.isNaN(time))
    throw new InvalidArgumentError('It must be a time, for example 2027-01-31T12:00:00Z.')
  return time
}

export function jsonValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidArgumentError(`It must be JSON: ${(error as Error).message}.`)
  }
}

/** The parts of a key: a JSON list, or else the text itself as the only part. */
export function keyParts(text: string): readonly QueryPart[] {
  if (!text.startsWith('[')) return [text]
  const value = jsonValue(text)
  if (Array.isArray(value) && value.every((part) => ['string', 'number', 'boolean'].includes(typeof part))) {
    return value
  }
  throw new InvalidArgumentError('It must be a JSON list of strings, numbers and booleans.')
}
