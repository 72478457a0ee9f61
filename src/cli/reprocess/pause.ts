import { command } from '../command.ts'
import { printResult } from '../terminal/output.ts'
import { onTarget } from './on-target.ts'
import { statusText } from './status-text.ts'

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
