import { type Command, InvalidArgumentError } from 'commander'
import { v7 } from 'uuid'
import type { Promotion } from '../../reprocess/reprocessing.ts'
import type { ServiceOptions } from '../address.ts'
import { command, jsonOption, runs } from '../command.ts'
import { confirmed } from '../terminal/confirm.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { note, paint, print } from '../terminal/output.ts'
import { type Reach, reachOptions } from './reach.ts'
import { statusText, versionText } from './status-text.ts'
import { withReach } from './with-reach.ts'

export interface ApprovalOptions extends ServiceOptions {
  readonly diff?: string
  readonly note?: string
  readonly requestId?: string
  readonly yes?: true
}

/** `hence reprocess promote` */
export function promoteCommand() {
  const promote = command('promote', 'make the other generation live, after its diff was looked at', [
    'hence reprocess promote --diff 5f1e4c0a… --note "totals in cents"',
    'hence reprocess promote --diff 5f1e4c0a… --request-id 0197f5a0-… --yes     in a script, and again after an error',
  ])
  return approvalOptions(promote).action(
    runs(async (options: ApprovalOptions, self: Command) => {
      if (options.diff === undefined) {
        throw new InvalidArgumentError(
          'Give the hash of the diff that you looked at: --diff HASH, as `hence reprocess diff` prints it.',
        )
      }
      const { diff } = options
      return withReach(options, self, async (reach) => {
        const { other } = await reach.generations()
        for (const line of other === undefined ? [] : statusText(other)) note(line)
        return approved(reach, diff, options)
      })
    }),
  )
}

/** Adds the options of an approval. */
export function approvalOptions(command: Command): Command {
  return reachOptions(command)
    .option('--diff <hash>', 'the diff that is approved; it must be the last one that was made', hashOf)
    .option('--note <text>', 'why; it stays in the log')
    .option('--request-id <id>', 'under this id; default: a new one, printed before it is sent, for a retry')
    .option('--yes', 'approve without being asked')
    .addOption(jsonOption())
}

/** Asks, promotes, and tells; gives the exit code. */
export async function approved(reach: Reach, diff: string, options: ApprovalOptions): Promise<number> {
  const { json, note: why, yes } = options
  if (!(await confirmed('promote', yes === true))) return exitCode.failed
  const requestId = options.requestId ?? v7()
  // Before it is sent: whatever happens then, the same id may be sent again.
  if (options.requestId === undefined) note(json ? JSON.stringify({ requestId }) : `request id ${requestId}`)
  const approval = { diff, ...(why !== undefined && { note: why }) }
  const promotion = await reach.promote(approval, { requestId })
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
    `Generation ${generation} is ${paint.good('live')}, ${versionText(version)}${replayed ? ', promoted before' : ''}. ` +
    `Corrections: ${outcome} of outcomes, ${effect} of effects, ${row} of rows; ${effectsNew} new effects are sent. ` +
    `Generation ${before} is kept for the way back, until it is discarded.`
  )
}

function hashOf(text: string): string {
  if (/^[0-9a-f]{64}$/.test(text)) return text
  throw new InvalidArgumentError('It must be all 64 hexadecimal digits.')
}
