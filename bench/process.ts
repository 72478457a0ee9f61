import { type ChildProcess, fork, type SpawnOptions, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const running = new Set<ChildProcess>()
// Whatever ends the bench ends what it has started.
process.on('exit', () => {
  for (const child of running) child.kill('SIGQUIT')
})

function keep<C extends ChildProcess>(child: C): C {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** Starts another program. */
export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  return keep(spawn(command, args, options))
}

/** Runs a file of the bench as a process of its own; gives the messages that it sends. */
export function startBench(file: string, args: readonly string[]): ChildProcess {
  const path = fileURLToPath(import.meta.resolve(`./${file}`))
  return keep(fork(path, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }))
}

/** Runs a file of the bench to its end; resolves to the last message that it sent. */
export async function runBench<Message>(file: string, args: readonly string[]): Promise<Message> {
  const child = startBench(file, args)
  let last: unknown
  child.on('message', (message) => {
    last = message
  })
  await ended(child, file)
  return last as Message
}

/** Resolves when a process has ended as it should. */
export function ended(child: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`${name} ended with ${signal ?? `exit code ${code}`}.`))
    })
  })
}
