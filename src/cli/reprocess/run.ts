import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { HenceError } from '../../failure.ts'
import { catchUp, failureOf } from '../../reprocess/catch-up.ts'
import type { ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, print } from '../terminal/output.ts'
import { Progress } from '../terminal/progress.ts'
import { stopSignal } from '../terminal/stop-signal.ts'
import { type Reach, reachOptions } from './reach.ts'
import { barText, statusText } from './status-text.ts'
import { withReach } from './with-reach.ts'

interface RunOptions extends ServiceOptions {
  readonly share?: number
  readonly again?: true
  readonly detach?: true
}

/** `hence reprocess run` */
export function runCommand() {
  const run = command('run', 'derive everything again with other code, beside what is live', [
    'hence reprocess run shop.ts --data data                         no server runs',
    'hence reprocess run shop.ts --data data --url http://…:4362     a server of this directory runs',
    'hence reprocess run --data data                                 goes on where it was',
  ])
    .argument('[app]', 'the module of the new code, such as shop.ts; default: go on with what has begun')
    .option(
      '--share <part>',
      'for how much of the time it works, over 0 to 1; default: all of it, in a process of its own',
      shareOf,
    )
    .option('--again', 'also when this code is live')
    .option('--detach', 'with a server: end when it has begun')
  return reachOptions(run)
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nCtrl-C stops it cleanly; a server goes on with it. Nothing that it asks for is sent before it is promoted.',
    )
    .action(
      runs(async (module: string | undefined, options: RunOptions, self: Command) => {
        const stop = stopSignal()
        return withReach(options, self, async (reach) => {
          await begin(reach, module, options)
          if (options.detach) return tell((await reach.generations()).other, options)
          const progress = new Progress()
          const reached = await catchUp(reach, stop.signal, (status) =>
            progress.show((columns) => barText(status, columns)),
          )
          progress.end()
          return tell(reached, options)
        })
      }),
    )
}

async function begin(reach: Reach, module: string | undefined, { share, again }: RunOptions): Promise<void> {
  if (module !== undefined) {
    await reach.start(module, { ...(share !== undefined && { share }), ...(again && { again }) })
  }
  const { other } = await reach.generations()
  if (other === undefined) throw none()
  if (other.state === 'paused') await reach.resume()
}

async function tell(reached: ReprocessStatus | undefined, { json, detach }: RunOptions): Promise<number> {
  // Somebody else has discarded it meanwhile.
  if (reached === undefined) throw none()
  if (json) await print(JSON.stringify(reached))
  else for (const line of statusText(reached)) await print(line)
  if (reached.state === 'failed') throw failureOf(reached)
  if (reached.state === 'following' || detach) return exitCode.ok
  note(reached.state === 'paused' ? 'It was paused.' : 'Stopped; the same command goes on where it was.')
  return exitCode.tryAgain
}

export function none(): HenceError {
  return new HenceError(
    'reprocess-none',
    'change',
    'There is no generation besides the live one. Name the module of the new code: hence reprocess run APP.',
  )
}

function shareOf(text: string): number {
  const share = Number(text)
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError('It must be a number over 0 and up to 1.')
}
