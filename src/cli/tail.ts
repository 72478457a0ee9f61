import type { TableChange } from '../app/index.ts'
import { type ServiceOptions, serverOptions } from './address.ts'
import { command, jsonOption, runs } from './command.ts'
import { exitCode } from './exit-code.ts'
import { changeText } from './explain.ts'
import { note, paint, print } from './output.ts'
import { withService } from './service.ts'
import { stopSignal } from './stop-signal.ts'

/** `hence tail`: changed rows as they come. */
export function tailCommand() {
  const tail = command('tail', 'print the changes of tables as they come, until it is stopped', [
    'hence tail',
    'hence tail orders products --json',
  ]).argument('[tables...]', 'these tables only')
  return serverOptions(tail)
    .addOption(jsonOption())
    .action(
      runs(async (tables: readonly string[], options: ServiceOptions, _command: unknown) =>
        followChanges(options, ({ table }) => tables.length === 0 || tables.includes(table)),
      ),
    )
}

/** Prints the changes that are wanted until a signal ends it. */
export async function followChanges(
  options: ServiceOptions,
  wanted: (change: TableChange) => boolean,
): Promise<number> {
  const stop = stopSignal()
  return withService(options, async ({ service }) => {
    const ended = Promise.withResolvers<never>()
    const end = service.subscribe((changes) => {
      for (const change of changes.filter(wanted)) {
        void print(
          options.json
            ? JSON.stringify(change)
            : `${changeText(change)} ${paint.faint(`at ${change.token}`)}`,
        )
      }
    }, ended.reject)
    note(
      options.json
        ? JSON.stringify({ following: options.url })
        : `Following ${options.url}. Press Ctrl-C to stop.`,
    )
    await Promise.race([stop.asked, ended.promise]).finally(end)
    return exitCode.ok
  })
}
