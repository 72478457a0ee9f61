import { type Command, Option } from 'commander'

/** HENC on a telephone keypad. */
export const portDefault = 4362

/** Adds the options for the server's address and the caller's key. */
export function serverOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--url <url>', 'the URL where the server is mounted')
        .env('HENCE_URL')
        .default(`http://127.0.0.1:${portDefault}`),
    )
    .addOption(
      new Option('--key <secret>', 'the API key; in the environment it stays out of the shell history').env(
        'HENCE_KEY',
      ),
    )
}

/** Adds the options for a data directory instead of a server. */
export function embeddedOptions(command: Command): Command {
  return command
    .addOption(new Option('--data <directory>', 'open this data directory instead of asking a server'))
    .addOption(
      new Option('--app <module>', 'with --data: the module of the app (default: the code kept there)'),
    )
}

export interface ServiceOptions {
  readonly url: string
  readonly key?: string
  readonly data?: string
  readonly app?: string
  /** With `data`: whether the engine signs tree heads. */
  readonly audit?: boolean
  readonly json?: true
}
