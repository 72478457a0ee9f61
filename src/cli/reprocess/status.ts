import { catchUp } from '../../reprocess/catch-up.ts'
import type { ServiceOptions } from '../address.ts'
import { command } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { print, printResult } from '../terminal/output.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import { generationsText, statusText } from './status-text.ts'
import { onTarget, type ReprocessTarget } from './target.ts'

export function statusCommand() {
  const status = command(
    'status',
    'show the generations, the progress of the candidate, and the promotions',
    [
      'hence reprocess status',
      'hence reprocess status --watch                     until it has caught up',
      'hence reprocess status --data data --json',
    ],
  ).option('--watch', 'print a line for each change until it has caught up')
  return onTarget(status, async (target, { json, watch }: ServiceOptions & { watch?: true }) => {
    if (watch) await watchStatus(target, json)
    const generations = await target.generations()
    await printResult(json, generations, generationsText(generations))
    return generations.candidate?.state === 'failed' ? exitCode.operator : exitCode.ok
  })
}

async function watchStatus(target: ReprocessTarget, json: true | undefined): Promise<void> {
  const stop = stopSignal()
  let printed = ''
  let printedAt = Number.NEGATIVE_INFINITY
  const statusNow = async () => (await target.generations()).candidate
  await catchUp(statusNow, stop.signal, (status) => {
    const text = json ? JSON.stringify(status) : statusText(status)[0]!
    const now = performance.now()
    if (text === printed || now - printedAt < everyMs || status.state !== 'deriving') return
    printed = text
    printedAt = now
    void print(text)
  })
}

const everyMs = 1_000
