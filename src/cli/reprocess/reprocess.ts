import { InvalidArgumentError } from 'commander'
import { changeError } from '../../failure.ts'
import { failureOf } from '../../reprocess/catch-up.ts'
import { noCandidate } from '../../reprocess/errors.ts'
import type { Promotion, ReprocessStatus } from '../../reprocess/reprocessing.ts'
import { command, group, type HenceCommand, type ServiceOptions } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { newRequestId, note, paint, printResult } from '../terminal/output.ts'
import { diffCommand, diffLines, samplesDefault } from './diff.ts'
import { generationsText, statusText, versionText } from './status-text.ts'
import { catchUpShown, caughtUp, onTarget, type ReprocessTarget } from './target.ts'

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
      switchCommand('pause', 'stop deriving the candidate until `resume`'),
      switchCommand('resume', 'continue to derive the candidate, after a pause or a failure'),
    ],
  )
}

function statusCommand() {
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

function switchCommand(what: 'pause' | 'resume', description: string) {
  const made = command(what, description, [`hence reprocess ${what}`])
  return onTarget(made, async (target, { json }) => {
    const status = await target[what]()
    await printResult(json, status, statusText(status))
  })
}

function discardCommand() {
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

interface RunOptions extends ServiceOptions {
  readonly share?: number
  readonly again?: true
  readonly detach?: true
}

function runCommand() {
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
  if (reached.state === 'following' && !json)
    note('`hence reprocess diff` shows what it derives differently.')
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

interface ApprovalOptions extends ServiceOptions {
  readonly diff?: string
  readonly note?: string
  readonly requestId?: string
  readonly yes?: true
}

function promoteCommand() {
  const promote = command('promote', 'make the candidate live, after you have looked at its diff', [
    'hence reprocess promote --diff 5f1e4c0a… --note "totals in cents"',
    'hence reprocess promote --diff 5f1e4c0a… --request-id 0197f5a0-… --yes     in a script; may be ' +
      'repeated after an error',
  ])
  return onTarget(approvalOptions(promote), async (target, options: ApprovalOptions) => {
    const { diff } = options
    if (diff === undefined) {
      throw new InvalidArgumentError(
        'Give the hash of the diff that you looked at: --diff HASH, as printed by `hence reprocess diff`.',
      )
    }
    const { candidate } = await target.generations()
    for (const line of candidate === undefined ? [] : statusText(candidate)) note(line)
    return approve(target, diff, options)
  })
}

function rollbackCommand() {
  const rollback = command(
    'rollback',
    'promote the generation that was live before, after showing the diff',
    [
      'hence reprocess rollback',
      'hence reprocess rollback --yes --note "wrong sums"             in a script',
      'hence reprocess rollback --diff 5f1e4c0a… --yes                a diff that you have looked at already',
    ],
  )
  return onTarget(approvalOptions(rollback), async (target, options: ApprovalOptions, signal) => {
    const { candidate } = await target.generations()
    if (!candidate?.wasLive)
      throw changeError(
        'reprocess-none',
        'There is no generation that was live before: nothing was promoted, or it was discarded. ' +
          'To go back, derive everything again with the old code (`hence reprocess run APP`) and promote that.',
      )
    if (options.diff !== undefined) return approve(target, options.diff, options)
    await caughtUp(target, signal)
    const diff = await target.diff(samplesDefault)
    for (const line of diffLines(diff)) note(line)
    return approve(target, diff.sha256, options)
  })
}

function approvalOptions(command: HenceCommand): HenceCommand {
  return command
    .option('--diff <hash>', 'the hash of the diff that you approve; it must be the last one', hashOf)
    .option('--note <text>', 'the reason; it is kept in the log')
    .option('--request-id <id>', 'the request id; default: a new one, printed before it is sent, for a retry')
    .option('--yes', 'approve without a question')
}

async function approve(
  target: ReprocessTarget,
  diff: string,
  options: ApprovalOptions,
): Promise<number | undefined> {
  const { json, note, yes } = options
  if (!(await confirmed('promote', yes))) return exitCode.failed
  const requestId = options.requestId ?? (await newRequestId(json))
  const promotion = await target.promote({ diff, note }, requestId)
  await printResult(json, promotion, promotionText(promotion))
}

function promotionText(promotion: Promotion): string {
  const { generation, version, before, corrections, effectsNew, replayed } = promotion
  const { outcome, effect, row } = corrections
  return (
    `Generation ${generation} is ${paint.good('live')}, ` +
    `${versionText(version)}${replayed ? ', promoted before' : ''}. Corrections: ${outcome} of outcomes, ` +
    `${effect} of effects, ${row} of rows. New effects: ${effectsNew}. Generation ${before} is kept for a ` +
    'rollback until it is discarded.'
  )
}

function hashOf(text: string): string {
  if (/^[0-9a-f]{64}$/.test(text)) return text
  throw new InvalidArgumentError('It must be the whole hash, 64 hexadecimal digits.')
}
