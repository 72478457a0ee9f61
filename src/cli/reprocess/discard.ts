import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, print } from '../terminal/output.ts'
import { reachOptions } from './reach.ts'
import { none } from './run.ts'
import { statusText } from './status-text.ts'
import { withReach } from './with-reach.ts'

/** `hence reprocess discard` */
export function discardCommand() {
  const discard = command('discard', 'give up the generation that is not live', [
    'hence reprocess discard',
    'hence reprocess discard --yes                      also one that was live before, without asking',
  ]).option('--yes', 'give up the way back too: a generation that was live before')
  return reachOptions(discard)
    .addOption(jsonOption())
    .action(
      runs(async (options: ServiceOptions & { yes?: true }, self: Command) =>
        withReach(options, self, async (reach) => {
          const { other } = await reach.generations()
          if (other === undefined) throw none()
          if (other.wasLive) {
            for (const line of statusText(other)) note(line)
            note('It is the way back from the last promotion.')
            if (!(await confirmed('discard', options.yes === true))) return exitCode.failed
          }
          await reach.discard()
          const { generation } = other
          await print(
            options.json ? JSON.stringify({ discarded: generation }) : `Discarded generation ${generation}.`,
          )
          return exitCode.ok
        }),
      ),
    )
}
