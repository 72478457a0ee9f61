import { startBench } from './process.ts'
import type { Progress } from './submitting-process.ts'

/**
 * Lets a process send payments, and kills it (SIGKILL) once this many are answered.
 * @param every the number of answers between two reports
 * @returns its reports
 */
export async function submitUntilKilled(
  data: string,
  count: number,
  every: number,
  reported: (now: Progress, before: readonly Progress[]) => void = () => {},
): Promise<Progress[]> {
  const child = startBench('submitting-process.ts', [data, '0', String(every)])
  const reports: Progress[] = []
  await new Promise<void>((resolve, reject) => {
    child.on('message', (now: Progress) => {
      reported(now, reports)
      reports.push(now)
      if (now.answered >= count) child.kill('SIGKILL')
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (signal === 'SIGKILL') resolve()
      else reject(new Error(`The process that sends payments ended with ${signal ?? `exit code ${code}`}.`))
    })
  })
  return reports
}
