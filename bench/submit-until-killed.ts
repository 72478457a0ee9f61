import { startBench } from './process.ts'
import type { Progress } from './submitting-process.ts'

/**
 * Lets a process send payments, and kills it without a warning when it has had so many answered.
 * @returns what it told on the way
 */
export async function submitUntilKilled(
  data: string,
  count: number,
  heard: (now: Progress, before: readonly Progress[]) => void = () => {},
): Promise<Progress[]> {
  const child = startBench('submitting-process.ts', [data])
  const seen: Progress[] = []
  await new Promise<void>((resolve, reject) => {
    child.on('message', (now: Progress) => {
      heard(now, seen)
      seen.push(now)
      if (now.answered >= count) child.kill('SIGKILL')
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (signal === 'SIGKILL') resolve()
      else reject(new Error(`The process that sends payments ended with ${signal ?? `exit code ${code}`}.`))
    })
  })
  return seen
}
