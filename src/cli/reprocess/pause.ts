import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { print } from '../terminal/output.ts'
import { statusText } from './status-text.ts'
import { targetOptions } from './target.ts'
import { withTarget } from './with-target.ts'

/** `hence reprocess pause` */
export const pauseCommand = () => switchCommand('pause', 'stop deriving the candidate until `resume`')

/** `hence reprocess resume` */
export const resumeCommand = () =>
  switchCommand('resume', 'continue to derive the candidate, after a pause or a failure')

function switchCommand(what: 'pause' | 'resume', description: string) {
  return targetOptions(command(what, description, [`hence reprocess ${what}`]))
    .addOption(jsonOption())
    .action(
      runs(async (options: ServiceOptions, self: Command) => {
        const status = await withTarget(options, self, (target) => target[what]())
        if (options.json) await print(JSON.stringify(status))
        else for (const line of statusText(status)) await print(line)
        return exitCode.ok
      }),
    )
}
