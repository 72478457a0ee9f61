import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Summary } from '../../examples/retail/summary.ts'

const scriptOf = (name: 'main' | 'mend') =>
  fileURLToPath(import.meta.resolve(`../../examples/retail/${name}.ts`))

/**
 * Real orders: seven months of the UCI "Online Retail" data set (doi:10.24432/C5BW33). The file is beside the
 * repository, not in it, or where HENCE_RETAIL_CSV says. Undefined if it is missing.
 */
export const realOrders = [
  process.env['HENCE_RETAIL_CSV'] ??
    fileURLToPath(import.meta.resolve('../../../shared/data/online-retail-2010-12-to-2011-06.csv.gz')),
].find((file) => existsSync(file))

const givenRounds = process.env['HENCE_ROUNDS']
/** How many rounds long tests run, or how often they kill a process; undefined for the short default. */
export const rounds = givenRounds === undefined ? undefined : Number(givenRounds)
/** Whether the long tests run: `npm run test:soak`. */
export const isLong = rounds !== undefined

/** The retail example in a separate process, so that it can be killed. */
export interface RetailProcess {
  kill(signal: NodeJS.Signals): boolean
  readonly ended: Promise<{
    code: number | null
    signal: NodeJS.Signals | null
    out: string[]
    err: string[]
  }>
}

/**
 * @param onLine called with every line that it prints, on standard output or error
 * @param script `main` imports orders, `mend` mends the books of version 1
 */
export function startRetail(
  args: readonly string[],
  onLine: (line: string) => void = () => {},
  script: 'main' | 'mend' = 'main',
): RetailProcess {
  const child = spawn(process.execPath, ['-C', 'hence-source', scriptOf(script), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const gather = (stream: NodeJS.ReadableStream) => {
    const lines: string[] = []
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      onLine(line)
    })
    return lines
  }
  const [out, err] = [gather(child.stdout), gather(child.stderr)]
  return {
    kill: (signal) => child.kill(signal),
    ended: new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) => resolve({ code, signal, out, err }))
    }),
  }
}

/** Runs it to its end with `--once --json`. */
export async function importOnce(...args: string[]): Promise<Summary> {
  const { code, out, err } = await startRetail([...args, '--once', '--json']).ended
  assert.equal(code, 0, `exit code ${code}\n${err.join('\n')}`)
  return JSON.parse(out.at(-1)!)
}

/** How many requests have been decided, if the line says so. */
export function progressOf(line: string): number | undefined {
  const count = /^(\d+) of \d+ requests$/.exec(line)?.[1]
  return count === undefined ? undefined : Number(count)
}

export async function newDirectory(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'hence-retail-'))
  context.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}
