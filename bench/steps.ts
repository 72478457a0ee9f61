import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runBench } from './process.ts'
import { type Bench, median, quantile, type Result } from './result.ts'
import type { Crowd } from './steps-process.ts'

/** The longest step of messages with thousands of consequences, which are spread over many steps. */
export async function steps({ directory, sized, progress }: Bench): Promise<Result[]> {
  const data = join(directory, 'steps')
  await mkdir(data, { mode: 0o700 })
  progress('steps: a limit that falls, timers that are due at once, no-shows')
  const { crowds } = await runBench<{ crowds: Crowd[] }>('steps-process.ts', [
    data,
    String(sized(1, 0.25, 0.01)),
  ])
  return crowds.map(({ what, longestMs, seconds, others }) => ({
    what: `longest step: ${what}`,
    figure: longestMs,
    unit: 'ms',
    p50: median(others),
    p99: quantile(others, 0.99),
    p999: quantile(others, 0.999),
    note:
      'processor time of the thread in one turn of the event loop; latencies are those of ' +
      `${others.length} requests of other keys, one after the other, in the ${seconds.toFixed(1)} s that it took`,
  }))
}
