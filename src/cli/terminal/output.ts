import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type InspectColor, styleText } from 'node:util'
import { HenceError } from '../../failure.ts'
import { plain } from '../../plain-text.ts'
import type { Report } from '../../report.ts'

/** Stands in every colour code of ours. Nobody whose text is shown knows it, so no other code is let through. */
const seal = randomUUID()
const sealed = new RegExp(`\x1b${seal}(\\[\\d+m)`)

/** Only terminals get colours: `styleText` omits them elsewhere, and where NO_COLOR is set. */
function painter(stream: NodeJS.WriteStream) {
  const paint = (colour: InspectColor) => (text: string) => {
    const [on = '', off = ''] = styleText(colour, '|', { stream }).split('|')
    return on === '' ? text : `\x1b${seal}${on.slice(1)}${text}\x1b${seal}${off.slice(1)}`
  }
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

/** Makes a line safe for a terminal; only the colours of `paint` take effect, if they are to stay. */
export function visible(line: string, coloured = true): string {
  return line
    .split(sealed)
    .map((part, i) => (i % 2 === 0 ? plain(part) : coloured ? `\x1b${part}` : ''))
    .join('')
}

/** Prints a line of the result. Resolves when there is room for more, so that a slow reader sets the pace. */
export const print = (line: string): Promise<void> => write(`${visible(line)}\n`)

/** Prints a text whose line breaks are Hence's own. */
export async function printLines(text: string): Promise<void> {
  for (const line of text.split('\n')) await print(line)
}

export const indented = (value: unknown) => JSON.stringify(value, undefined, 2).split('\n')

/** Prints a result: its value as JSON for programs, or else its lines, by default those of the value. */
export async function printResult(
  json: boolean | undefined,
  value: unknown,
  lines: string | readonly string[] = indented(value),
): Promise<void> {
  for (const line of json ? [JSON.stringify(value)] : [lines].flat()) await print(line)
}

/** Prints a line of JSON for a program, byte for byte; a terminal gets the same value. */
export function printExact(line: string): Promise<void> {
  return write(`${process.stdout.isTTY ? plain(line) : line}\n`)
}

async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain')
}

/** Prints a line for the person who watches, to standard error. */
export function note(line: string): void {
  process.stderr.write(`${visible(line)}\n`)
}

/** Makes a request id, and prints it before it is sent: whatever happens then, it may be sent again. */
export async function newRequestId(json: boolean | undefined): Promise<string> {
  const { v7 } = await import('uuid')
  const requestId = v7()
  note(json ? JSON.stringify({ requestId }) : `request id ${requestId}`)
  return requestId
}

/** How a command line mends an error that names the means of HTTP. */
const hints: Readonly<Record<string, string>> = {
  'server-unreachable': 'Does `hence start` run there? `--url` names another address.',
  'not-authenticated': 'A command takes the key from `--key` or `HENCE_KEY`.',
}

/** Prints the message of a HenceError, or the stack of another, indented to look like no error of its own. */
export function printError(error: unknown, json: boolean | undefined): void {
  if (json) {
    const { code, advice, message } =
      error instanceof HenceError
        ? error
        : { code: 'unexpected-error', advice: 'operator', message: `${error}` }
    note(JSON.stringify({ error: { code, advice, message } }))
    return
  }
  const isKnown = error instanceof HenceError
  const text = isKnown ? error.message : error instanceof Error ? (error.stack ?? error.message) : `${error}`
  const [first = '', ...more] = text.split('\n')
  note(isKnown ? `${paintError.bad(error.code)}: ${first}` : paintError.bad(first))
  for (const line of more) note(isKnown ? `  ${line}` : paintError.bad(`  ${line}`))
  const hint = isKnown && hints[error.code]
  if (hint) note(`  ${hint}`)
}

/** Returns a reporter that prints each report of an engine or server as a line on standard error. */
export function printReport(json: boolean | undefined): (report: Report) => void {
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
