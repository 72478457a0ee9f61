import type { Plan } from '../../offline/index.ts'
import { command, type DataOptions } from '../command.ts'
import { exitCode } from '../terminal/exit-code.ts'
import { paint, printResult } from '../terminal/output.ts'
import { withProgress } from '../terminal/progress.ts'
import { count, durationText, versionText } from './status-text.ts'

export function planCommand() {
  return command('plan', 'show what deriving everything again would take; changes nothing', [
    'hence reprocess plan shop.ts --data data',
  ])
    .argument('<app>', 'the module of the new code, for example shop.ts')
    .readsLog()
    .json()
    .addHelpText('after', '\nIt only reads the log, and may run beside a running server.')
    .runs(async (app: string, { data, json }: DataOptions) => {
      const { plan } = await import('../../offline/plan.ts')
      const made = await withProgress((work) => plan({ data, app, ...work }))
      await printResult(json, made, planText(made))
      return made.unreadable.length > 0 ? exitCode.unreadable : exitCode.ok
    })
}

function planText(plan: Plan): string[] {
  const { before, after, records, bytes, messages, definitions, estimateMs } = plan
  const isUnknown = new Set(plan.unreadable)
  const lines = [
    before === after
      ? `The code is the one in force, ${versionText(before)}.`
      : `The code in force is ${versionText(before)}, the new one is ${versionText(after)}.`,
    `${count(records)} records (${count(bytes)} bytes) would be derived again.`,
    ...messages.map((each) => {
      const { kind, type, version, count: many, first } = each
      const known = isUnknown.has(each) ? ` ${paint.bad(`unknown to the new code, first at ${first}`)}` : ''
      return `  ${kind} ${paint.strong(type)}${version === 1 ? '' : ` version ${version}`}: ${count(many)}${known}`
    }),
  ]
  if (definitions === undefined)
    lines.push('The code in force is not in the directory, so definitions are not compared.')
  for (const { kind, name, change } of definitions ?? [])
    lines.push(`${kind} ${paint.strong(name)} ${change}`)
  if (estimateMs !== undefined) {
    lines.push(
      `It would take about ${durationText(estimateMs)} on a free processor; longer on a busy one, or with --share.`,
    )
  }
  return lines
}
