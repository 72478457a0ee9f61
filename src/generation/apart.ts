import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { getHeapStatistics } from 'node:v8'
import { operatorError } from '../failure.ts'
import { moduleBeside } from '../module-beside.ts'
import { type DerivedAt, type Interrupted, Interruption, type InterruptionCode } from '../sandbox/timed.ts'

const mainModule = moduleBeside(import.meta.url, 'apart-process')

/** The parameters of a process that derives up to a record. */
export interface ApartOptions {
  readonly directory: string
  readonly lineage: readonly number[]
  /** The version of the code, used where there is no checkpoint. */
  readonly version: string
  /** By partition: the end of the log. */
  readonly ends: readonly number[]
  readonly at: DerivedAt
  readonly derivationMs: number
  readonly checked: boolean
}

/** A line that the process prints: a derivation of the record begins, was interrupted, or all ended. */
export type ApartLine =
  | { readonly begins: Interrupted }
  | { readonly interrupted: InterruptionCode; readonly derivation: Interrupted; readonly ms: number }
  | { readonly ended: true }

/**
 * Derives the log up to a record in a process of its own, with as much heap as this one has, and nothing of
 * it is kept.
 * @returns how the derivation of the record was interrupted; undefined if it ended
 * @throws HenceError `derivation-not-examined` (operator) if the process could not get to the record
 */
export async function deriveApart(options: ApartOptions): Promise<Interruption | undefined> {
  // An application that is bundled into one file has no such module.
  if (!existsSync(mainModule)) return undefined
  const { heap_size_limit } = getHeapStatistics()
  const megabytes = Math.max(32, Math.floor(heap_size_limit / 1024 / 1024))
  const execArgv = [...process.execArgv, `--max-old-space-size=${megabytes}`]
  const { lines, errors } = await runApart(mainModule, options, execArgv)
  const last = lines.at(-1) as ApartLine | undefined
  if (last === undefined) throw notExamined(options.at, errors)
  if ('ended' in last) return undefined
  if ('interrupted' in last) {
    const interruption = new Interruption(last.interrupted, last.derivation)
    interruption.ms = last.ms
    return interruption
  }
  return new Interruption('derivation-too-large', last.begins)
}

/**
 * Options of Node for a process that derives beside this one: the limits of this one, so that a derivation
 * ends there as it does here. V8's helper threads would compete with live work for the processors.
 */
export const argvBeside = (): string[] => [
  '--single-threaded',
  ...process.execArgv.filter((each) => /^--(max|stack)[-_]/.test(each)),
]

/** Runs a process that gets options and prints lines of JSON; returns them, and the end of its errors. */
export async function runApart(
  module: string,
  options: object,
  execArgv: readonly string[],
  signal?: AbortSignal,
): Promise<{ readonly lines: readonly unknown[]; readonly errors: string }> {
  const child = spawn(process.execPath, [...execArgv, module, JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    killSignal: 'SIGKILL',
    signal,
  })
  const ended = new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
  // Without a pid it was never started, and has no pipes.
  if (child.pid === undefined) await ended
  // It ends when this pipe closes, as it does when this process dies.
  child.stdin.on('error', () => {})
  let text = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
  })
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    errors = `${errors}${piece}`.slice(-2_000)
  })
  await ended
  const whole = text.split('\n').filter((line) => line.endsWith('}'))
  return { lines: whole.map((line) => JSON.parse(line)), errors: errors.trim() }
}

const notExamined = ({ partition, offset }: DerivedAt, errors: string) =>
  operatorError(
    'derivation-not-examined',
    `Processes have died at record ${partition}:${offset}, and the process that should derive it by ` +
      'itself did not get there: ' +
      `${errors || 'it said nothing'}. Give it more memory, or rule the record out: \`hence rule ` +
      `${partition}:${offset}\`.`,
  )
