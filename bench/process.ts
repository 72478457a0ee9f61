import { type ChildProcess, fork, type SpawnOptions, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const running = new Set<ChildProcess>()
// Child processes end with the bench.
process.on('exit', () => {
  for (const child of running) child.kill('SIGQUIT')
})

function track<C extends ChildProcess>(child: C): C {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** Starts another program. */
export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  return track(spawn(command, args, options))
}

/** Starts a file of the bench as a child process with a message channel. */
export function startBench(file: string, args: readonly string[]): ChildProcess {
  const path = fileURLToPath(import.meta.resolve(`./${file}`))
  return track(fork(path, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }))
}

/** Runs a file of the bench as a child process; resolves to its last message once it has exited. */
export async function runBench<Message>(file: string, args: readonly string[]): Promise<Message> {
  const child = startBench(file, args)
  let last: unknown
  child.on('message', (message) => {
    last = message
  })
  await ended(child, file)
  return last as Message
}

/** Resolves when a process has exited with code 0; rejects otherwise. */
export function ended(child: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`${name} ended with ${signal ?? `exit code ${code}`}.`))
    })
  })
}
