import type { Command } from 'commander'
import { HenceError } from '../../failure.ts'
import { command, runs } from '../command.ts'
import { note } from '../terminal/output.ts'
import { diffFormed } from './diff.ts'
import { type ApprovalOptions, approvalOptions, approved } from './promote.ts'
import { withReach } from './with-reach.ts'

/** `hence reprocess rollback` */
export function rollbackCommand() {
  const rollback = command(
    'rollback',
    'show what the generation that was live before has made differently, and promote it after approval',
    [
      'hence reprocess rollback',
      'hence reprocess rollback --yes --note "wrong sums"             in a script',
      'hence reprocess rollback --diff 5f1e4c0a… --yes                a diff that was looked at already',
    ],
  )
  return approvalOptions(rollback).action(
    runs(async (options: ApprovalOptions, self: Command) =>
      withReach(options, self, async (reach) => {
        const { other } = await reach.generations()
        // A promotion that is asked for again under its id may have been done: then the engine tells.
        if (!other?.wasLive) throw notKept()
        if (options.diff !== undefined) return approved(reach, options.diff, options)
        const diff = await reach.diff(samplesShown)
        note(diffFormed('text', diff).trimEnd())
        return approved(reach, diff.sha256, options)
      }),
    ),
  )
}

const samplesShown = 5

function notKept(): HenceError {
  return new HenceError(
    'reprocess-none',
    'change',
    'No generation that was live before is kept, so there is no way back: it was discarded, or nothing was promoted. ' +
      'The code of before can derive everything again: hence reprocess run APP.',
  )
}
