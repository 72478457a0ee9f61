import { command, type DataOptions } from './command.ts'
import { carrierAt, logOption } from './log-carrier.ts'
import { confirmed } from './terminal/confirm.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, printResult } from './terminal/output.ts'

interface RuleCommandOptions extends DataOptions {
  readonly log?: string
  readonly reason?: string
  readonly yes?: true
}

export function ruleCommand() {
  return command('rule', 'make the derivation of one record count as failed, so that the others go on', [
    'hence rule 0:1234 --data data',
    'hence rule 0:1234 --data data --reason "fills the heap, see issue 7" --yes',
  ])
    .argument('<record>', 'the position of the record, as alarms and `hence log cat` show it')
    .data()
    .addOption(logOption())
    .option('--reason <text>', 'the reason, which the story of the request shows')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      '\nAn engine rules by itself on a derivation that does not end, or that ends its process; this is ' +
        'for the case that it cannot.\nNo process may have the directory open. A record whose outcome may ' +
        'have been sent is never ruled out.',
    )
    .runs(async (record: string, { data, log, reason, yes, json }: RuleCommandOptions) => {
      const confirm = () => {
        note(`Record ${record} will count as failed for the code in force, for good.`)
        return confirmed(`rule out ${record}`, yes)
      }
      const { rule } = await import('../offline/rule.ts')
      const carrier = log === undefined ? undefined : await carrierAt(log)
      const ruled = await rule({ data, log: carrier, record, reason, confirm })
      if (ruled === undefined) return exitCode.operator
      const { kind, type, version } = ruled
      await printResult(
        json,
        ruled,
        `${kind} ${paint.strong(type)} at ${record} counts as failed for version ${version.slice(0, 12)} of the code.`,
      )
      if (json) return
      note('Mend the code and promote it: what the record should have done is then derived and corrected.')
    })
}
