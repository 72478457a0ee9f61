import { readPublicKey } from '../audit/signing-key.ts'
import type { Verification, VerifiedHistory } from '../offline/index.ts'
import { counted } from '../plain-text.ts'
import { command, type DataOptions } from './command.ts'
import { readInput } from './input-file.ts'
import { exitCode } from './terminal/exit-code.ts'
import { paint, printResult } from './terminal/output.ts'
import { withProgress } from './terminal/progress.ts'

export function verifyCommand() {
  return command(
    'verify',
    'check every byte of a log, its hash chain, its signed heads, and the tables derived from it',
    [
      'hence verify --data data',
      'hence verify --data data --head published.ndjson --key public-key.pem     against heads that somebody else kept',
      'hence verify --data data --no-history --json',
    ],
  )
    .readsLog()
    .option('--head <files...>', 'files of published heads to check, besides those in the data directory')
    .option(
      '--key <files...>',
      'the public key to check heads with, or all that the signer has had (default: those of the data directory)',
    )
    .option('--no-history', 'do not derive the tables again')
    .addHelpText('after', '\nIt changes nothing, and may run beside a process that has the directory open.')
    .runs(verifyData)
}

interface VerifyDataOptions extends DataOptions {
  readonly head?: readonly string[]
  readonly key?: readonly string[]
  readonly history: boolean
}

async function verifyData(options: VerifyDataOptions): Promise<number> {
  const { data, head: heads, history, json } = options
  const key =
    options.key && (await Promise.all(options.key.map(async (file) => readPublicKey(await readInput(file)))))
  const { verify } = await import('../offline/verify.ts')
  const result = await withProgress((work) => verify({ data, heads, key, history, ...work }))
  await printResult(json, result, verificationText(result))
  return result.ok ? exitCode.ok : exitCode.operator
}

function verificationText({ ok, records, bytes, heads, history, flaws }: Verification): string[] {
  const { generations = [] } = history
  return [
    ...flaws.map(({ message }) => `${paint.bad('✘')} ${message}`),
    `${ok ? paint.good('✔') : '·'} ${counted(records, 'record')}, ${bytes} bytes, read and checked; ` +
      `${counted(heads, 'signed head')}.`,
    ...(generations.length < 2
      ? [historyText(history, '')]
      : generations.map((each) => {
          const which = `Generation ${each.generation}${each.live ? ', which is live' : ''}: `
          return historyText(each, which)
        })),
  ]
}

function historyText(history: VerifiedHistory, which: string): string {
  return history.checked
    ? `${paint.good('✔')} ${which}${counted(history.tables, 'table')}${viewsText(history.views)}, derived again ` +
        `from ${counted(history.records, 'record')}: no difference.`
    : `${paint.warn('!')} ${which}Not derived again: ${history.reason}.`
}

const viewsText = (views: readonly unknown[] = []) =>
  views.length === 0 ? '' : ` and ${counted(views.length, 'view')}`
