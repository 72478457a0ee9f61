import { InvalidArgumentError } from 'commander'
import { failureOf } from '../../reprocess/catch-up.ts'
import { noCandidate } from '../../reprocess/errors.ts'
import type { ReprocessStatus } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, printResult } from '../terminal/output.ts'
import { statusText } from './status-text.ts'
import { catchUpShown, onTarget, type ReprocessTarget } from './target.ts'

interface RunOptions extends ServiceOptions {
  readonly share?: number
  readonly again?: true
  readonly detach?: true
}

export function runCommand() {
  const run = command('run', 'derive everything again with other code, beside the live generation', [
    'hence reprocess run shop.ts --data data                         without a server',
    'hence reprocess run shop.ts --data data --url http://…:4362     beside a server',
    'hence reprocess run --data data                                 continue where it stopped',
  ])
    .argument(
      '[app]',
      'the module of the new code, for example shop.ts; default: continue the present candidate',
    )
    .option(
      '--share <part>',
      'share of the time that it works, over 0 to 1; default: 1, in a child process',
      shareOf,
    )
    .option('--again', 'even if this code is live already')
    .option('--detach', 'with a server: exit once it has begun')
    .addHelpText(
      'after',
      '\nCtrl-C stops it cleanly; a server continues without this command. No effect of the candidate is ' +
        'sent before it is promoted.',
    )
  return onTarget(
    run,
    async (target, options: RunOptions, signal, module: string | undefined) => {
      await begin(target, module, options)
      if (options.detach) return finish((await target.generations()).candidate, options)
      return finish(await catchUpShown(target, signal), options)
    },
    true,
  )
}

async function begin(
  target: ReprocessTarget,
  module: string | undefined,
  { share, again }: RunOptions,
): Promise<void> {
  if (module !== undefined) await target.start(module, { share, again })
  const { candidate } = await target.generations()
  if (candidate === undefined) throw noCandidate()
  if (candidate.state === 'paused') await target.resume()
}

/** Prints the last status, and returns the exit code. */
async function finish(reached: ReprocessStatus | undefined, { json, detach }: RunOptions): Promise<number> {
  // It may have been discarded meanwhile.
  if (reached === undefined) throw noCandidate()
  await printResult(json, reached, statusText(reached))
  if (reached.state === 'failed') throw failureOf(reached)
  if (reached.state === 'following' || detach) return exitCode.ok
  note(
    reached.state === 'paused' ? 'It was paused.' : 'Stopped. The same command continues where it stopped.',
  )
  return exitCode.tryAgain
}

function shareOf(text: string): number {
  const share = Number(text)
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError('It must be a number over 0 and at most 1.')
}
