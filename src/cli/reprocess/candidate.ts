import { noCandidate } from '../../reprocess/errors.ts'
import type { ServiceOptions } from '../address.ts'
import { command } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, printResult } from '../terminal/output.ts'
import { statusText } from './status-text.ts'
import { onTarget } from './target.ts'

export const pauseCommand = () => switchCommand('pause', 'stop deriving the candidate until `resume`')

export const resumeCommand = () =>
  switchCommand('resume', 'continue to derive the candidate, after a pause or a failure')

function switchCommand(what: 'pause' | 'resume', description: string) {
  const made = command(what, description, [`hence reprocess ${what}`])
  return onTarget(made, async (target, { json }) => {
    const status = await target[what]()
    await printResult(json, status, statusText(status))
  })
}

export function discardCommand() {
  const discard = command('discard', 'delete the candidate, the generation that is not live', [
    'hence reprocess discard',
    'hence reprocess discard --yes                      also one that was live before, without a question',
  ]).option('--yes', 'also delete a generation that was live before, which makes a rollback impossible')
  return onTarget(discard, async (target, { json, yes }: ServiceOptions & { yes?: true }) => {
    const { candidate } = await target.generations()
    if (candidate === undefined) throw noCandidate()
    if (candidate.wasLive) {
      for (const line of statusText(candidate)) note(line)
      note('It was live before; without it, the last promotion cannot be rolled back.')
      if (!(await confirmed('discard', yes))) return exitCode.failed
    }
    await target.discard()
    const { generation } = candidate
    await printResult(json, { discarded: generation }, `Discarded generation ${generation}.`)
  })
}
