import type { Command } from 'commander'
import { catchUp } from '../../reprocess/catch-up.ts'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { print } from '../terminal/output.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import { type Reach, reachOptions } from './reach.ts'
import { generationsText, statusText } from './status-text.ts'
import { withReach } from './with-reach.ts'

/** `hence reprocess status` */
export function statusCommand() {
  const status = command('status', 'tell the generations, how far the other one is, and what was promoted', [
    'hence reprocess status',
    'hence reprocess status --watch                     until it has caught up',
    'hence reprocess status --data data --json',
  ]).option('--watch', 'go on telling, a line for each change, until it has caught up')
  return reachOptions(status)
    .addOption(jsonOption())
    .action(
      runs(async (options: ServiceOptions & { watch?: true }, self: Command) =>
        withReach(options, self, async (reach) => {
          if (options.watch) await watch(reach, options.json === true)
          const generations = await reach.generations()
          if (options.json) await print(JSON.stringify(generations))
          else for (const line of generationsText(generations)) await print(line)
          return generations.other?.state === 'failed' ? exitCode.operator : exitCode.ok
        }),
      ),
    )
}

async function watch(reach: Reach, json: boolean): Promise<void> {
  const stop = stopSignal()
  let told = ''
  let toldAt = Number.NEGATIVE_INFINITY
  await catchUp(reach, stop.signal, (status) => {
    const text = json ? JSON.stringify(status) : statusText(status)[0]!
    const now = performance.now()
    if (text === told || now - toldAt < everyMs || status.state !== 'deriving') return
    told = text
    toldAt = now
    void print(text)
  })
}

const everyMs = 1_000
