/** The command `hence`, run as a separate process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(import.meta.resolve('../src/cli/main.ts'))

export interface HenceOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** The text on its standard input. */
  readonly input?: string
  /** In a separate process group, as a shell runs a command. */
  readonly detached?: boolean
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function spawned(args: readonly string[], { cwd, env, input, detached = false }: HenceOptions): ChildProcess {
  const { NO_COLOR: _, FORCE_COLOR: __, ...inherited } = process.env
  const child = spawn(process.execPath, ['-C', 'hence-source', main, ...args], {
    cwd,
    env: { ...inherited, ...env },
    stdio: 'pipe',
    detached,
  })
  child.stdin!.on('error', () => {})
  child.stdin!.end(input ?? '')
  return child
}

/** Runs it until it exits. */
export async function hence(args: readonly string[], options: HenceOptions = {}): Promise<Ended> {
  const child = spawned(args, options)
  let [stdout, stderr] = ['', '']
  child.stdout!.on('data', (text) => {
    stdout += text
  })
  child.stderr!.on('data', (text) => {
    stderr += text
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}

/** A command that runs until it is stopped; its output arrives line by line. */
export class Running {
  readonly process: ChildProcess
  readonly lines: string[] = []
  errors = ''
  readonly #waiting = new Set<() => void>()
  readonly ended: Promise<number | null>

  constructor(args: readonly string[], options: HenceOptions = {}) {
    this.process = spawned(args, options)
    createInterface({ input: this.process.stdout! }).on('line', (line) => {
      this.lines.push(line)
      this.#look()
    })
    this.process.stderr!.on('data', (text) => {
      this.errors += text
      this.#look()
    })
    this.ended = once(this.process, 'close').then(([code]) => {
      this.#look()
      return code
    })
  }

  /** Waits for a line that matches, from a given line on. */
  async line(fits: RegExp, from = 0): Promise<string> {
    const found = () => this.lines.slice(from).find((line) => fits.test(line))
    await this.#until(() => found() !== undefined, fits)
    return found()!
  }

  /** Waits until standard error has a text that matches. */
  async error(fits: RegExp): Promise<void> {
    await this.#until(() => fits.test(this.errors), fits)
  }

  /** Stops it gracefully; resolves to its exit code. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.process.kill(signal)
    return this.ended
  }

  async #until(met: () => boolean, what: RegExp): Promise<void> {
    while (!met()) {
      if (this.process.exitCode !== null || this.process.signalCode !== null) {
        throw new Error(`hence exited before it printed ${what}:\n${this.lines.join('\n')}\n${this.errors}`)
      }
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    }
  }

  #look(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

/** Starts an app on a free port; resolves when it listens. */
export async function started(
  args: readonly string[],
  options: HenceOptions = {},
  command: 'start' | 'dev' = 'start',
): Promise<Running & { readonly url: string }> {
  const open = command === 'start' ? ['--open'] : []
  const running = new Running([command, ...args, ...open, '--port', '0', '--json'], options)
  const { listening } = JSON.parse(await running.line(/"listening"/))
  return Object.assign(running, { url: listening as string })
}
