import { HenceError } from '../../failure.ts'
import { command } from '../command.ts'
import { note } from '../terminal/output.ts'
import { diffLines, samplesDefault } from './diff.ts'
import { onTarget } from './on-target.ts'
import { type ApprovalOptions, approvalOptions, approve } from './promote.ts'

export function rollbackCommand() {
  const rollback = command(
    'rollback',
    'promote the generation that was live before, after showing the diff',
    [
      'hence reprocess rollback',
      'hence reprocess rollback --yes --note "wrong sums"             in a script',
      'hence reprocess rollback --diff 5f1e4c0a… --yes                a diff that you have looked at already',
    ],
  )
  return onTarget(approvalOptions(rollback), async (target, options: ApprovalOptions) => {
    const { candidate } = await target.generations()
    if (!candidate?.wasLive) throw notKept()
    if (options.diff !== undefined) return approve(target, options.diff, options)
    const diff = await target.diff(samplesDefault)
    for (const line of diffLines(diff)) note(line)
    return approve(target, diff.sha256, options)
  })
}

function notKept(): HenceError {
  return new HenceError(
    'reprocess-none',
    'change',
    'There is no generation that was live before: nothing was promoted, or it was discarded. ' +
      'To go back, derive everything again with the old code (`hence reprocess run APP`) and promote that.',
  )
}
