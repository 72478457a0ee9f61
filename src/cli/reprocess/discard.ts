import type { Command } from 'commander'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, print } from '../terminal/output.ts'
import { noCandidate } from './run.ts'
import { statusText } from './status-text.ts'
import { targetOptions } from './target.ts'
import { withTarget } from './with-target.ts'

/** `hence reprocess discard` */
export function discardCommand() {
  const discard = command('discard', 'delete the candidate, the generation that is not live', [
    'hence reprocess discard',
    'hence reprocess discard --yes                      also one that was live before, without a question',
  ]).option('--yes', 'also delete a generation that was live before, which makes a rollback impossible')
  return targetOptions(discard)
    .addOption(jsonOption())
    .action(
      runs(async (options: ServiceOptions & { yes?: true }, self: Command) =>
        withTarget(options, self, async (target) => {
          const { candidate } = await target.generations()
          if (candidate === undefined) throw noCandidate()
          if (candidate.wasLive) {
            for (const line of statusText(candidate)) note(line)
            note('It was live before; without it, the last promotion cannot be rolled back.')
            if (!(await confirmed('discard', options.yes === true))) return exitCode.failed
          }
          await target.discard()
          const { generation } = candidate
          await print(
            options.json ? JSON.stringify({ discarded: generation }) : `Discarded generation ${generation}.`,
          )
          return exitCode.ok
        }),
      ),
    )
}
