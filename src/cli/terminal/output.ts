import { once } from 'node:events'
import { type InspectColor, styleText } from 'node:util'
import { HenceError } from '../../failure.ts'
import type { Report } from '../../report.ts'

/** Only terminals get colours: `styleText` omits them elsewhere, and where NO_COLOR is set. */
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

/** Prints a line of the result. Resolves when there is room for more, so that a slow reader sets the pace. */
export async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain')
}

/** Prints a line for the person who watches, to standard error. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`)
}

/**
 * Prints an error: the message of a HenceError, which is meant for users, or the stack of an unexpected
 * error.
 */
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

/** Returns a reporter that prints each report of an engine or server as a line on standard error. */
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

/** Exits when the reader of the output stops reading (`| head`). */
export function exitWhenReaderStops(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(0)
  })
}
