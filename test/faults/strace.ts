/** strace makes system calls of a process fail, or ends the process at one of them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

function mayTrace(): boolean {
  try {
    execFileSync('strace', ['-qq', '-o', '/dev/null', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** For `test`: the reason why nothing can be traced here, or false. */
export const noTracing = mayTrace() ? false : 'strace is not here, or may not trace'

/**
 * Runs a module beside this one under strace.
 * @param options.paths the files whose calls are counted; calls of other files are left alone
 * @param options.inject see `man strace`; calls are counted by thread, so there are two: main and pool
 */
export function traced(
  module: string,
  args: readonly string[],
  options: {
    readonly trace: string
    readonly paths: readonly string[]
    readonly inject?: string
    readonly output?: string
  },
): ChildProcess {
  const { trace, paths, inject, output = '/dev/null' } = options
  const program = fileURLToPath(import.meta.resolve(`./${module}`))
  const given = [
    '-f',
    '--seccomp-bpf',
    '-qq',
    '-y',
    '-s',
    '0',
    '-o',
    output,
    ...paths.flatMap((path) => ['-P', path]),
  ]
  given.push('-e', `trace=${trace}`)
  if (inject !== undefined) given.push('-e', `inject=${inject}`)
  return spawn('strace', [...given, process.execPath, '-C', 'hence-source', program, ...args], {
    env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Traces a process that runs, its threads and its children; it is under way when this resolves. */
export async function attach(
  pid: number,
  options: {
    readonly calls: readonly string[]
    /** Default: of all files. */
    readonly paths?: readonly string[]
    readonly inject?: string | undefined
    readonly output?: string
  },
): Promise<{ stop(signal: NodeJS.Signals): Promise<void> }> {
  const { calls, paths = [], inject, output = '/dev/null' } = options
  const given = ['-f', '-y', '-s', '0', '-o', output, ...paths.flatMap((path) => ['-P', path])]
  given.push('-e', `trace=${calls}`)
  if (inject !== undefined) given.push('-e', `inject=${inject}`)
  const strace = spawn('strace', [...given, '-p', `${pid}`], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(strace, 'exit')
  await once(strace.stderr!, 'data')
  strace.stderr!.resume()
  return {
    async stop(signal) {
      strace.kill(signal)
      await ended
    },
  }
}
