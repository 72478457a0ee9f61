import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { QueryPart } from '../app/index.ts'
import { fileFailure } from '../file-failure.ts'
import { carrierAt, logOption } from './log-carrier.ts'
import { exitCode, exitCodeOf } from './terminal/exit-code.ts'
import { note, printError } from './terminal/output.ts'
import { Stopped, withProgress } from './terminal/progress.ts'

export class HenceCommand extends Command {
  example = ''
  #readsLog = false

  server(): this {
    const key = 'the API key; in the environment it stays out of the shell history'
    return this.addOption(
      new Option('--url <url>', 'the URL where the server is mounted')
        .env('HENCE_URL')
        .default(`http://127.0.0.1:${portDefault}`),
    )
      .addOption(new Option('--key <secret>', key).env('HENCE_KEY'))
      .json()
  }

  /** Adds the options of `server`, and those for a data directory instead of a server. */
  engine(): this {
    return this.server()
      .option('--data <directory>', 'open this data directory instead of asking a server')
      .option('--app <module>', 'with --data: the module of the app (default: the code kept there)')
  }

  data(): this {
    return this.requiredOption('--data <directory>', dataMeaning).json()
  }

  /** Adds the options for a log that is read. A copy of one is brought up to date, or its age printed. */
  readsLog(): this {
    this.#readsLog = true
    return this.data().addOption(logOption())
  }

  json(): this {
    return this.option('--json', 'print JSON, for programs')
  }

  /** Sets the action, which returns the exit code, by default `ok`; an error that it throws is printed. */
  runs<Args extends unknown[]>(action: (...args: Args) => Promise<number | undefined>): this {
    return this.action(async (...args) => {
      // Commander passes the arguments, the options and the command itself.
      const options = args.at(-2) as {
        readonly json?: boolean
        readonly data?: string
        readonly log?: string
      }
      try {
        if (this.#readsLog) await refreshed(options.data!, options.log)
        process.exitCode = (await action(...(args as Args))) ?? exitCode.ok
      } catch (caught) {
        const error = fileFailure(caught) ?? caught
        if (error instanceof Stopped) {
          note('Stopped.')
          process.exitCode = exitCode.tryAgain
        } else if (error instanceof CommanderError) {
          note(`error: ${error.message}`)
          process.exitCode = exitCode.usage
        } else {
          printError(error, options.json)
          process.exitCode = exitCodeOf(error)
        }
      }
    })
  }
}

async function refreshed(data: string, log: string | undefined): Promise<void> {
  // Loaded only here: most directories have no copy.
  if (log === undefined && !existsSync(join(data, 'log/carrier.json'))) return
  const { copyIn, refresh } = await import('../offline/carried-log.ts')
  if (log !== undefined) {
    // How safe the log is matters to a start, which says it.
    const carrier = await carrierAt(log, () => {})
    const isNew = !existsSync(join(data, 'log'))
    await withProgress((work) => refresh({ data, log: carrier, ...work }))
    if (isNew) note(`There was no log in ${data}: it now has a copy of the one in ${carrier.name}.`)
    return
  }
  const { carrier, at } = (await copyIn(data))!
  const time = new Date(at).toISOString()
  note(`${data} has a copy of the log in ${carrier}, as of ${time}. --log brings it up to date.`)
}

export interface DataOptions {
  readonly data: string
  readonly json?: true
}

export const dataMeaning = 'the data directory: the log and everything derived from it'

export function command(name: string, description: string, examples: readonly string[]): HenceCommand {
  const made = new HenceCommand(name)
  made.example = examples[0]!
  return made
    .description(description)
    .helpCommand(false)
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`)
}

/** Makes a command of subcommands; its examples are the first ones of those. */
export function group(name: string, description: string, parts: readonly HenceCommand[]): HenceCommand {
  const examples = parts.map(({ example }) => example)
  return parts.reduce((made, each) => made.addCommand(each), command(name, description, examples))
}

export function wholeNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}

/** Gathers the values of an option that may be repeated. */
export const repeated = (each: string, before: readonly string[] = []): readonly string[] => [...before, each]

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

/** HENC on a telephone keypad. */
export const portDefault = 4362

export interface ServiceOptions {
  readonly url: string
  readonly key?: string
  readonly data?: string
  readonly app?: string
  /** With `data`: whether the engine signs tree heads. */
  readonly audit?: boolean
  readonly json?: true
}
