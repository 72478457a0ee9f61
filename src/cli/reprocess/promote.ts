import { type Command, InvalidArgumentError } from 'commander'
import { v7 } from 'uuid'
import type { Promotion } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, paint, print } from '../terminal/output.ts'
import { statusText, versionText } from './status-text.ts'
import { type ReprocessTarget, targetOptions } from './target.ts'
import { withTarget } from './with-target.ts'

export interface ApprovalOptions extends ServiceOptions {
  readonly diff?: string
  readonly note?: string
  readonly requestId?: string
  readonly yes?: true
}

/** `hence reprocess promote` */
export function promoteCommand() {
  const promote = command('promote', 'make the candidate live, after you have looked at its diff', [
    'hence reprocess promote --diff 5f1e4c0a… --note "totals in cents"',
    'hence reprocess promote --diff 5f1e4c0a… --request-id 0197f5a0-… --yes     in a script; may be ' +
      'repeated after an error',
  ])
  return approvalOptions(promote).action(
    runs(async (options: ApprovalOptions, self: Command) => {
      if (options.diff === undefined) {
        throw new InvalidArgumentError(
          'Give the hash of the diff that you looked at: --diff HASH, as printed by `hence reprocess diff`.',
        )
      }
      const { diff } = options
      return withTarget(options, self, async (target) => {
        const { candidate } = await target.generations()
        for (const line of candidate === undefined ? [] : statusText(candidate)) note(line)
        return approve(target, diff, options)
      })
    }),
  )
}

/** Adds the options of an approval. */
export function approvalOptions(command: Command): Command {
  return targetOptions(command)
    .option('--diff <hash>', 'the hash of the diff that you approve; it must be the last one', hashOf)
    .option('--note <text>', 'the reason; it is kept in the log')
    .option('--request-id <id>', 'the request id; default: a new one, printed before it is sent, for a retry')
    .option('--yes', 'approve without a question')
    .addOption(jsonOption())
}

/** Asks for confirmation, promotes and prints the result. Returns the exit code. */
export async function approve(
  target: ReprocessTarget,
  diff: string,
  options: ApprovalOptions,
): Promise<number> {
  const { json, note: why, yes } = options
  if (!(await confirmed('promote', yes === true))) return exitCode.failed
  const requestId = options.requestId ?? v7()
  // Printed first, so that the user can retry with the same id whatever happens.
  if (options.requestId === undefined) note(json ? JSON.stringify({ requestId }) : `request id ${requestId}`)
  const approval = { diff, ...(why !== undefined && { note: why }) }
  const promotion = await target.promote(approval, { requestId })
  await print(json ? JSON.stringify(promotion) : promotionText(promotion))
  return exitCode.ok
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
