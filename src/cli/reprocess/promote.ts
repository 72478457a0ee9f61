import { InvalidArgumentError } from 'commander'
import { changeError } from '../../failure.ts'
import type { Promotion } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command, type HenceCommand } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { newRequestId, note, paint, printResult } from '../terminal/output.ts'
import { diffLines, samplesDefault } from './diff.ts'
import { statusText, versionText } from './status-text.ts'
import { caughtUp, onTarget, type ReprocessTarget } from './target.ts'

interface ApprovalOptions extends ServiceOptions {
  readonly diff?: string
  readonly note?: string
  readonly requestId?: string
  readonly yes?: true
}

export function promoteCommand() {
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

/** Asks for confirmation, promotes and prints the result. Returns the exit code. */
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

function promotionText({
  generation,
  version,
  before,
  corrections,
  effectsNew,
  replayed,
}: Promotion): string {
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
