import { command } from '../command.ts'
import { discardCommand, pauseCommand, resumeCommand } from './candidate.ts'
import { diffCommand } from './diff.ts'
import { promoteCommand, rollbackCommand } from './promote.ts'
import { runCommand } from './run.ts'
import { statusCommand } from './status.ts'

export function reprocessCommand() {
  return command(
    'reprocess',
    'derive everything again with other code beside the live generation, compare both, and promote it',
    [
      'hence reprocess run shop.ts --data data',
      'hence reprocess diff --data data',
      'hence reprocess promote --data data --diff 5f1e4c0a…',
      'hence reprocess rollback --data data               possible until `discard`',
    ],
  )
    .addCommand(runCommand())
    .addCommand(statusCommand())
    .addCommand(diffCommand())
    .addCommand(promoteCommand())
    .addCommand(rollbackCommand())
    .addCommand(discardCommand())
    .addCommand(pauseCommand())
    .addCommand(resumeCommand())
}
