import { once } from 'node:events'
import { type InspectColor, styleText } from 'node:util'
import { HenceError } from '../../failure.ts'
import type { Report } from '../../report.ts'

/** Colours are for terminals; `styleText` leaves them out elsewhere, and wherever NO_COLOR is set. */
function painter(stream: NodeJS.WriteStream) {
  const paint = (colour: InspectColor) => (text: string) => styleText(colour, text, { stream })
  return {
    good: paint('green'),
    bad: paint('red'),
    warn: paint('yellow'),
    strong: paint('bold'),
    faint: paint('gray'),
  }
}

export const paint = painter(process.stdout)
export const paintError = painter(process.stderr)

/** Prints a line of the answer; resolves when there is room for more, so that a slow reader sets the pace. */
export async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain')
}

/** Prints a line that is not part of the answer: what is going on, for the person who watches. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** What Hence says is meant for people; the trace of anything else is for whoever mends it. */
export function printError(error: unknown, json: boolean): void {
  if (json) {
    const { code, advice, message } =
      error instanceof HenceError
        ? error
        : { code: 'unexpected-error', advice: 'operator', message: `${error}` }
    note(JSON.stringify({ error: { code, advice, message } }))
  } else if (error instanceof HenceError) {
    note(`${paintError.bad(error.code)}: ${error.message}`)
  } else {
    note(paintError.bad(error instanceof Error ? (error.stack ?? error.message) : String(error)))
  }
}

/** Reports of a running engine or server go to standard error, a line each. */
export function printReport(json: boolean): (report: Report) => void {
  return (report) => {
    if (json) {
      note(JSON.stringify(report))
      return
    }
    const { level, code, message } = report
    const colour = { info: paintError.faint, warning: paintError.warn, alarm: paintError.bad }[level]
    note(`${colour(`${level}: ${code}`)}: ${message}`)
  }
}

/** Whoever reads the answer may stop reading (`| head`): then there is nothing left to do. */
export function endQuietlyWhenNobodyReads(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(0)
  })
}
