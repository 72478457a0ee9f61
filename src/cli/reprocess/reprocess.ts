import { command } from '../command.ts'
import { diffCommand } from './diff.ts'
import { discardCommand } from './discard.ts'
import { pauseCommand, resumeCommand } from './pause.ts'
import { promoteCommand } from './promote.ts'
import { rollbackCommand } from './rollback.ts'
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
