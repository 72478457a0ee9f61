import type { Query } from '../app/index.ts'
import { command, group, keyParts, logTime, type ServiceOptions, wholeNumber } from './command.ts'
import { withService } from './service.ts'
import { exitCode } from './terminal/exit-code.ts'
import { indented, note, paint, printResult } from './terminal/output.ts'

export function tableCommand() {
  return group('table', 'read tables', [getCommand(), scanCommand()])
}

function getCommand() {
  return command('get', 'print a row', [
    'hence table get products mug',
    `hence table get orders mug o1                       a key with two parts`,
    `hence table get lines '["o1",3]'                    a key with a number`,
  ])
    .argument('<table>')
    .argument('<key...>', 'the parts of the key, or one JSON list')
    .option('--after <token>', 'wait until the request with this token is applied')
    .option('--at <token or time>', 'as it was then, if the changes since are kept', moment)
    .engine()
    .runs(async (table: string, key: readonly string[], options: ReadingOptions) => {
      const parts = key.length === 1 ? keyParts(key[0]!) : key
      const row = await withService(options, ({ service }) =>
        service.get(table as never, parts as never, { after: options.after, at: options.at }),
      )
      if (row === undefined) {
        note(`Table ${table} has no row ${JSON.stringify(parts)}.`)
        return exitCode.nothingFound
      }
      await printResult(options.json, { key: parts, value: row }, indented(row))
    })
}

function scanCommand() {
  return command('scan', 'print rows in order; with --json, one object a row', [
    'hence table scan products',
    'hence table scan orders --prefix mug --reverse --limit 10',
    `hence table scan orders --index byCustomer --prefix ada`,
    'hence table scan orders --data data --json > orders.ndjson',
  ])
    .argument('<table>')
    .option('--index <name>', 'read by this index, in its order')
    .option('--prefix <parts>', 'only rows whose key begins with this: a text, or a JSON list', keyParts)
    .option('--from <parts>', 'start here: parts that follow the prefix', keyParts)
    .option('--to <parts>', 'end before this', keyParts)
    .option('--reverse', 'from last to first')
    .option('--limit <number>', 'print at most this many rows', wholeNumber)
    .option('--after <token>', 'wait until the request with this token is applied')
    .option('--at <token or time>', 'as it was then, if the changes since are kept', moment)
    .engine()
    .runs(async (table: string, options: ScanOptions) => {
      const { after, at, index, prefix, from, to, reverse, limit } = options
      const query: Query = { index, prefix, from, to, reverse, limit }
      await withService(options, async ({ service }) => {
        for (const { key, value } of await service.scan(table as never, query as never, { after, at })) {
          const text = `${paint.strong(JSON.stringify(key))} ${JSON.stringify(value)}`
          await printResult(options.json, { key, value }, text)
        }
      })
    })
}

interface ReadingOptions extends ServiceOptions {
  readonly after?: string
  readonly at?: string | number
}

interface ScanOptions extends ReadingOptions, Query {}

const moment = (text: string) => (/^\d+:\d+$/.test(text) ? text : logTime(text))
