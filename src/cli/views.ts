import { command, type ServiceOptions } from './command.ts'
import { versionText } from './reprocess/status-text.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, printResult } from './terminal/output.ts'

export function viewsCommand() {
  return command('views', 'show how far each view is', ['hence views', 'hence views --data data --json'])
    .engine()
    .runs(async (options: ServiceOptions) => {
      const views = await withService(options, (opened) => opened.views())
      for (const view of views) {
        const { name, state, version, records, of, answering, error } = view
        const isFailed = state === 'failed'
        const text =
          `${paint.strong(name)} ${isFailed ? paint.bad(state) : state} ${records} of ${of} records ` +
          paint.faint(versionText(version)) +
          (answering === undefined ? '' : `, ${versionText(answering)} answers`) +
          (error === undefined ? '' : `\n  ${error.message}`)
        await printResult(options.json, view, text)
      }
      if (views.some(({ state }) => state === 'failed')) return exitCode.operator
      if (views.length > 0) return exitCode.ok
      note('There are no views.')
      return exitCode.nothingFound
    })
}
