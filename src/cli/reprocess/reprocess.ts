import { group } from '../command.ts'
import { discardCommand, pauseCommand, resumeCommand } from './candidate.ts'
import { diffCommand } from './diff.ts'
import { promoteCommand, rollbackCommand } from './promote.ts'
import { runCommand } from './run.ts'
import { statusCommand } from './status.ts'

export function reprocessCommand() {
  return group(
    'reprocess',
    'derive everything again with other code beside the live generation, compare both, and promote it',
    [
      runCommand(),
      statusCommand(),
      diffCommand(),
      promoteCommand(),
      rollbackCommand(),
      discardCommand(),
      pauseCommand(),
      resumeCommand(),
    ],
  )
}
