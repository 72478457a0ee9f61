import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runBench } from './process.ts'
import type { Promoted } from './promotion-process.ts'
import type { Bench, Result } from './result.ts'

/** How long requests wait for a promotion when all rows and outcomes differ. */
export async function promotion({ directory, sized, progress }: Bench): Promise<Result[]> {
  const data = join(directory, 'promotion')
  await mkdir(data, { mode: 0o700 })
  const requests = sized(250_000, 25_000, 300)
  progress(`promotion: ${requests} requests, each with three rows and an outcome that differ`)
  const made = await runBench<Promoted>('promotion-process.ts', [data, String(requests)])
  await rm(data, { recursive: true })
  const { differences, outcomes, longestBeforeMs, longestMs, seconds } = made
  return [
    {
      what: 'the longest wait for a promotion',
      figure: longestMs,
      unit: 'ms',
      note:
        `${differences.toLocaleString('en-US')} differences, ${outcomes.toLocaleString('en-US')} of them ` +
        `corrected outcomes; it took ${seconds.toFixed(1)} s, and the longest wait before was ` +
        `${longestBeforeMs.toFixed(1)} ms`,
    },
  ]
}
