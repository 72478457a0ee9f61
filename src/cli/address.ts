import { type Command, Option } from 'commander'

/** The digits of HENC on a telephone. */
export const portDefault = 4362

/** Adds the options that say where the server is, and who asks. */
export function serverOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--url <url>', 'where the server is mounted')
        .env('HENCE_URL')
        .default(`http://127.0.0.1:${portDefault}`),
    )
    .addOption(
      new Option('--key <secret>', 'an API key; better in the environment than in a history of commands').env(
        'HENCE_KEY',
      ),
    )
}

/** Adds those that name a data directory instead of a server. */
export function embeddedOptions(command: Command): Command {
  return command
    .addOption(new Option('--data <directory>', 'open this data directory here, instead of asking a server'))
    .addOption(
      new Option('--app <module>', 'the module of the app (with --data); default: the code kept there'),
    )
}

export interface ServiceOptions {
  readonly url: string
  readonly key?: string
  readonly data?: string
  readonly app?: string
  /** With `data`: the engine signs tree heads. */
  readonly audit?: boolean
  readonly json?: true
}
