import { command } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { printResult } from '../terminal/output.ts'
import { generationsText } from './status-text.ts'
import { onTarget } from './target.ts'

export function statusCommand() {
  const status = command(
    'status',
    'show the generations, the progress of the candidate, and the promotions',
    ['hence reprocess status', 'hence reprocess status --data data --json'],
  )
  return onTarget(status, async (target, { json }) => {
    const generations = await target.generations()
    await printResult(json, generations, generationsText(generations))
    return generations.candidate?.state === 'failed' ? exitCode.operator : exitCode.ok
  })
}
