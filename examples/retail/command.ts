import { Command, InvalidArgumentError, Option } from 'commander'

/** Options that the commands of the shop share. */
export interface ShopOptions {
  readonly csv?: string
  readonly orders?: number
  readonly data?: string
  readonly partitions?: number
  readonly json?: true
}

/** @param data says what `--data` is for */
export function shopCommand(name: string, data: string): Command {
  return new Command(name)
    .option('--csv <file>', 'UCI "Online Retail" data, .csv or .csv.gz (default: a made-up sample)')
    .addOption(
      new Option('--orders <number>', 'orders of the sample (default: 20000)')
        .argParser(wholeNumber)
        .conflicts('csv'),
    )
    .option('--data <directory>', data)
    .option('--partitions <number>', 'partitions of a new log (default: 1)', wholeNumber)
    .showHelpAfterError('(--help shows the options)')
}

function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}
