import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { print } from '../terminal/output.ts'
import { reachOptions } from './reach.ts'
import { statusText } from './status-text.ts'
import { withReach } from './with-reach.ts'

/** `hence reprocess pause` */
export const pauseCommand = () => switchCommand('pause', 'stop deriving until it is resumed')

/** `hence reprocess resume` */
export const resumeCommand = () => switchCommand('resume', 'go on deriving')

function switchCommand(what: 'pause' | 'resume', description: string) {
  return reachOptions(command(what, description, [`hence reprocess ${what}`]))
    .addOption(jsonOption())
    .action(
      runs(async (options: ServiceOptions, self: Command) => {
        const status = await withReach(options, self, (reach) => reach[what]())
        if (options.json) await print(JSON.stringify(status))
        else for (const line of statusText(status)) await print(line)
        return exitCode.ok
      }),
    )
}
