import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { command, type DataOptions, wholeNumber } from './command.ts'
import { exitCode } from './terminal/exit-code.ts'
import { note, paint, print, printResult } from './terminal/output.ts'

export function sqlCommand() {
  return command('sql', 'read views that are in SQLite; with --json, one object a row', [
    `hence sql "select * from by_day order by cents desc limit 10" --data data`,
    `hence sql "select name, sql from sqlite_schema where type = 'view'" --data data`,
  ])
    .argument('<statement>')
    .data()
    .option('--limit <number>', 'print at most this many rows', wholeNumber, 1_000)
    .option('--seconds <number>', 'give up after this time', wholeNumber, 10)
    .addHelpText('after', '\nIt changes nothing, and may run beside the process that has the directory open.')
    .runs(async (statement: string, options: DataOptions & SqlOptions) => {
      const { columns, rows } = await read(statement, options)
      const more = rows.splice(options.limit).length > 0
      if (options.json) {
        for (const row of rows)
          await printResult(true, Object.fromEntries(columns.map((name, i) => [name, row[i]])), [])
      } else {
        const texts = rows.map((row) => row.map((value) => (value === null ? '' : `${value}`)))
        const widths = columns.map((name, i) =>
          Math.max(...[name, ...texts.map((row) => row[i]!)].map((text) => text.length)),
        )
        const padded = (text: string, i: number) => text.padEnd(widths[i]!)
        const line = (row: readonly string[]) => row.map(padded).join('  ').trimEnd()
        await print(paint.strong(line(columns)))
        for (const row of texts) await print(line(row))
      }
      if (more) note(`There are more than ${options.limit} rows: --limit shows more.`)
      return exitCode.ok
    })
}

interface SqlOptions {
  readonly limit: number
  readonly seconds: number
}

interface Found {
  readonly columns: readonly string[]
  readonly rows: (string | number | null)[][]
}

/** Runs in a process of its own, since nothing but its end stops a statement. */
const script = `
const [file, statement, limit] = process.argv.slice(1)
const { DatabaseSync } = require('node:sqlite')
const found = new DatabaseSync(file, { readOnly: true, timeout: 5000 }).prepare(statement)
found.setReturnArrays(true)
const rows = []
for (const row of found.iterate()) if (rows.push(row) > limit) break
const shown = (_, value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value)
console.log(JSON.stringify({ columns: found.columns().map(({ name }) => name), rows }, shown))`

async function read(statement: string, { data, limit, seconds }: DataOptions & SqlOptions): Promise<Found> {
  const { sqlFile, tryReading } = await import('../view/sql.ts')
  const file = join(data, sqlFile)
  const bounds = { timeout: seconds * 1_000, killSignal: 'SIGKILL', maxBuffer: 256 * 1024 * 1024 } as const
  const args = ['--no-warnings', '-e', script, file, statement, `${limit}`]
  if (!existsSync(file))
    throw new InvalidArgumentError(`${data} has no view in SQLite: see \`sql\` of a view.`)
  tryReading(file)
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, bounds, (error, out, errors) => {
      if (error === null) resolve(JSON.parse(out))
      else if (error.killed)
        reject(new InvalidArgumentError(`It took more than ${seconds} s: --seconds allows more.`))
      else reject(new InvalidArgumentError(/^Error: (.*)$/m.exec(errors)?.[1] ?? errors))
    })
  })
}
